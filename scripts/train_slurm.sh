#!/usr/bin/env bash
# Train on the GPUs of one SLURM allocation, a task for each GPU:
#   sbatch --nodes=2 --ntasks-per-node=8 --gpus-per-node=8 scripts/train_slurm.sh \
#       --config configs/reconstruction/4dhands.yaml --data.train ...
# Two minutes before its time is over the run is asked to save; go on with --resume.
# Partition, account and environment are yours: sbatch options, or activate it before. More in
# docs/training.md.
#SBATCH --job-name=fourdhands
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --output=%x-%j.log
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?is not set: submit this script by sbatch, from the repository}"

exec srun --ntasks-per-node "$SLURM_NTASKS_PER_NODE" --cpus-per-task "${SLURM_CPUS_PER_TASK:-1}" \
    --kill-on-bad-exit=1 \
    python train.py reconstruction "$@" \
    --trainer.devices "$SLURM_NTASKS_PER_NODE" --trainer.num_nodes "$SLURM_JOB_NUM_NODES"
