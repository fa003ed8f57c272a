"""Our import of a peer's weights against the peer's own modules, at random weights.

    python -m tests.parity.compare hamer CHECKOUT [--whole] [--write-golden]
    python -m tests.parity.compare omnihands CHECKOUT [--whole] [--write-golden]

CHECKOUT is a clone of https://github.com/geopavlakos/hamer or https://github.com/LinDixuan/OmniHands;
its model modules alone are imported. Every tensor is random (`tests.parity.numbers`), norms and
mean parameters included, so a wrong or missing mapping shows. `--whole` compares the networks as
released (4 to 7 GB of memory, a minute or two), otherwise two blocks of each kind; `--write-golden`
stores the peer's outputs in tests/parity/golden, which the test suite compares with.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tests.parity.numbers import weights_for
from tests.parity.ours import Outputs, imported, outputs, scene
from tests.parity.peers import build, normalised

GOLDEN = Path(__file__).parent / "golden"
LIMIT = 1e-4
LEFT_OUT = ("mano.", "time_head.mano_branch.mano_layer.", "rel_mano.", "discriminator.")


def own_weights(peer: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes of what a peer learns, and its mean parameters."""
    state = peer.state_dict()
    return {
        name: tuple(tensor.shape)
        for name, tensor in state.items()
        if not name.startswith(LEFT_OUT) and tensor.is_floating_point()
    }


@torch.no_grad()
def their_outputs(peer: str, model: torch.nn.Module) -> Outputs:
    """What `outputs` of ours gives, from the peer's own module."""
    pictures, squares = scene(peer)
    x = normalised(pictures)
    tokens = model.backbone(x.flatten(0, 2)[:2, ..., 32:-32]).flatten(2).mT
    if peer == "hamer":
        return {"tokens": tokens} | _hamer(model, x)
    found = model.forward_step(
        {
            "img_right": x[:, :, 0].movedim(2, -1),
            "img_left": x[:, :, 1].movedim(2, -1),
            "bbox_right": squares[:, :, 0],
            "bbox_left": squares[:, :, 1],
            "bbox_full": torch.tensor([0.0, 0.0, 640.0, 640.0]).expand_as(squares[:, :, 0]),
        },
        train=True,  # without the camera by RANSAC, which is no part of the network
    )
    return {
        "tokens": tokens,
        "vertices": _sides(found, "verts3d"),
        "joints": _sides(found, "joints3d")[:, :, _NO_TIPS],
        "betas": _sides(found, "mano_shape"),
        "crop_camera": _sides(found, "cam") + model.time_head.init_cam,
        "upsilon": found["root_rel"],
    }


def _hamer(model: torch.nn.Module, x: Tensor) -> Outputs:
    """It takes single hands; left ones are mirrored already."""
    found = model.forward_step({"img": x.flatten(0, 2)}, train=False)
    hands = x.shape[:1] + x.shape[2:3]
    return {
        "vertices": found["pred_vertices"].unflatten(0, hands),
        "joints": found["pred_keypoints_3d"].unflatten(0, hands)[:, :, _NO_TIPS],
        "betas": found["pred_mano_params"]["betas"].unflatten(0, hands),
        "crop_camera": found["pred_cam"].unflatten(0, hands),
    }


_NO_TIPS = [k for k in range(21) if k not in (4, 8, 12, 16, 20)]


def _sides(found: dict[str, Tensor], name: str) -> Tensor:
    return torch.stack((found[f"{name}_right"], found[f"{name}_left"]), 1)


def write_golden(
    peer: str, shapes: dict[str, tuple[int, ...]], theirs: Outputs, commit: str
) -> Path:
    """A few hundred kB: the peer's outputs, its weights' names and shapes, how it was made."""
    made = {
        "peer": peer,
        "commit": commit,
        "command": f"python -m tests.parity.compare {peer} CHECKOUT --write-golden",
        "torch": torch.__version__,
        "hand": "the open hand; weights, images and boxes of tests/parity/numbers.py",
        "network": "as released, with two blocks of each kind",
        "shapes": shapes,
    }
    arrays = {name: value.numpy() for name, value in theirs.items()}
    arrays["tokens"] = arrays["tokens"][:, :, ::16]  # every 16th channel is enough
    arrays["vertices"] = arrays["vertices"][:, :, ::4]
    path = GOLDEN / f"{peer}.npz"
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, made=np.array(json.dumps(made)), **arrays)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("peer", choices=("hamer", "omnihands"))
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--write-golden", action="store_true")
    parser.add_argument("--commit", default="not on record", help="of the checkout, for the file")
    arguments = parser.parse_args()
    if arguments.whole and arguments.write_golden:
        parser.error("golden files are of the slim network: leave --whole out")
    slim = not arguments.whole
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = build(arguments.peer, arguments.checkout, folder, slim=slim)
        shapes = own_weights(model)
        weights = weights_for(shapes)
        refused = model.load_state_dict(weights, strict=False).unexpected_keys
        assert not refused, refused
        theirs = their_outputs(arguments.peer, model)
        del model
        predictor = imported(arguments.peer, weights, folder, slim=slim)
        del weights
        mine = outputs(arguments.peer, predictor)
    worst = 0.0
    for quantity, value in theirs.items():
        difference = (value - mine[quantity]).abs().max().item()
        worst = max(worst, difference)
        print(f"{quantity:>12}: at most {difference:.1e} apart (values to {value.abs().max():.2f})")
    if arguments.write_golden:
        path = write_golden(arguments.peer, shapes, theirs, arguments.commit)
        print(f"{path}: {path.stat().st_size / 1024:.0f} kB")
    if not worst <= LIMIT:
        raise SystemExit(f"{worst:.1e} is more than {LIMIT:.0e}")


if __name__ == "__main__":
    main()
