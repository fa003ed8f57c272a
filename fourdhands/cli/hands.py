"""`fourdhands hands`: import MANO, build the open hand, measure it, draw it."""

from pathlib import Path
from typing import Final

import cv2

from fourdhands.cli.hand_sheet import draw_sheet
from fourdhands.files import replacing
from fourdhands.hands import assets as hand_assets
from fourdhands.hands.anatomy import save_pose_bank
from fourdhands.hands.open_hand.build import POSES_IN_BANK, build_open_hand
from fourdhands.hands.open_hand.pose_bank import SEED_NAMES
from fourdhands.hands.open_hand.report import measure

MIN_POSES: Final = 64
FIGURES_BEGIN: Final = "<!-- figures: fourdhands hands report -->"
FIGURES_END: Final = "<!-- end of figures -->"


def import_official(folder: Path, *, out: Path = Path("mano")) -> None:
    """Convert the official MANO_RIGHT.pkl and MANO_LEFT.pkl to npz, executing nothing of them.

    Args:
        folder: Where the two pickles lie.
        out: Folder for MANO_RIGHT.npz and MANO_LEFT.npz.
    """
    hand_assets.import_official(folder, out)
    print(f"wrote {', '.join(str(out / name) for name in hand_assets.FILE_NAMES.values())}")


def show(*, out: Path = Path("hands.png"), mano: Path | None = None, seed: int = 0) -> None:
    """Draw a sheet of poses and shapes of both hands.

    Args:
        out: Picture to write, PNG.
        mano: Folder of converted MANO files; the open hand if not given.
        seed: Of skins and random poses.
    """
    if out.suffix.lower() != ".png":
        raise ValueError(f"--out {out}: give a name that ends in .png")
    if seed < 0:
        raise ValueError(f"--seed {seed}: it may not be negative")
    sheet = draw_sheet(hand_assets.load_assets(mano), seed)
    _write(out, cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1].tobytes())


def build(*, out: Path = Path("open_hand"), poses: int = POSES_IN_BANK) -> None:
    """Make the open hand anew, the same every time; takes some minutes.

    Needs scikit-image and fast-simplification, which the extra `dev` brings.

    Args:
        out: Folder for MANO_RIGHT.npz, MANO_LEFT.npz and POSES.npz.
        poses: Size of the bank of clean poses, at least 64.
    """
    if poses < MIN_POSES:
        raise ValueError(f"--poses {poses}: the bank needs at least {MIN_POSES}")
    pair, bank = build_open_hand(poses)
    hand_assets.save_assets(pair, out)
    save_pose_bank(bank, SEED_NAMES, out)
    print(f"wrote {out}")


def report(*, into: Path | None = None) -> None:
    """Measure the shipped open hand.

    Args:
        into: Markdown file whose figures are replaced; they are printed if not given.
    """
    if into is None:
        print(measure(hand_assets.load_assets()))
        return
    before, begin, rest = into.read_text().partition(FIGURES_BEGIN)
    _, end, after = rest.partition(FIGURES_END)
    if not (begin and end):
        raise ValueError(f"'{into}' has no lines '{FIGURES_BEGIN}' and '{FIGURES_END}'")
    figures = measure(hand_assets.load_assets())
    _write(into, f"{before}{begin}\n\n{figures}\n{end}{after}".encode())


def _write(path: Path, data: bytes) -> None:
    """Write a file, and say so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_bytes(data)
    print(f"wrote {path}")
