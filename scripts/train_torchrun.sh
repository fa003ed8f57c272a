#!/usr/bin/env bash
# Train on the GPUs of this machine, or of several, by torchrun:
#   scripts/train_torchrun.sh --config configs/reconstruction/4dhands.yaml --data.train ...
# On several machines start the same line on each; one of them is the meeting place:
#   NODES=2 MEET=node1:29500 scripts/train_torchrun.sh ...
# DEVICES: processes on this machine (default: its GPUs). More in docs/training.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

gpus=$(nvidia-smi --list-gpus 2> /dev/null | wc -l || true)
devices=${DEVICES:-$((gpus > 0 ? gpus : 1))}
nodes=${NODES:-1}
if ((nodes > 1)); then
    : "${MEET:?is not set: name a machine and a free port for all to meet at, MEET=HOST:PORT}"
    meeting=(--nnodes "$nodes" --rdzv-backend c10d --rdzv-endpoint "$MEET" --rdzv-id fourdhands)
else
    meeting=(--standalone)
fi

exec python -m torch.distributed.run "${meeting[@]}" --nproc-per-node "$devices" \
    train.py reconstruction "$@" --trainer.devices "$devices" --trainer.num_nodes "$nodes"
