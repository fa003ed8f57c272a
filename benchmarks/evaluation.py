"""A benchmark's whole evaluation, from files on disk to its figures: seconds and memory.

    python benchmarks/evaluation.py
    python benchmarks/evaluation.py --official ../ho3d
    python benchmarks/evaluation.py --protocol interhand26m_interwild --images 121573

Ours is `eval.py --predictions`, as anybody runs it, on hands of the open hand model with noise. For
single hands (HO3D, FreiHAND) it is compared with a plain program that goes image by image, as the
official ones do, and with `--official DIR` with the real one: a checkout of
https://github.com/shreyashampali/ho3d, whose `eval.py` runs on the same hands. Those two take a
share of the images only (`--slow_images`), since an hour is long; all have to give ours figures for
that share. Each row is a process of its own; memory is the peak of what it held (mapped pages of
files are among it), and `CPU s` counts all its threads.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import roma
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from scipy.linalg import orthogonal_procrustes

from fourdhands.evaluation.alignments import MIDDLE
from fourdhands.evaluation.protocols import PROTOCOLS
from fourdhands.hands.mano import HandModel
from fourdhands.skeleton import NUM_SIDES, WRIST
from fourdhands.structures import HandState

Floats = NDArray[np.float64]
BLOCK = 1024
HO3D_ORDER = [0, 5, 6, 7, 9, 10, 11, 17, 18, 19, 13, 14, 15, 1, 2, 3, 4, 8, 12, 16, 20]
"""Our numbers of HO3D's joints."""
OPENGL = np.array((1.0, -1.0, -1.0))
SINGLE = ("ho3d_v2", "ho3d_v3", "freihand")
ROOT = Path(__file__).parents[1]


# ---- the hands -----------------------------------------------------------------------------------


def write_files(folder: Path, images: int, sides: int, *, meshes: bool = True) -> None:
    """Write `truth.npz` and `predictions.npz`, block by block."""
    writers = [Writer(folder / f"{name}.npz") for name in ("truth", "predictions")]
    there = np.arange(NUM_SIDES) < sides
    for writer in writers:
        writer.array("format_version", np.array(1))
        writer.array("names", np.array([f"sequence/0/{k}" for k in range(images)]))
        writer.array("joints_valid", np.tile(there[None, :, None], (images, 1, 21)))
        writer.array("sequence", np.array([f"{k // 500}" for k in range(images)]))
        writer.array("frame", np.arange(images) % 500)
        writer.array("fps", np.full(images, 30.0))
        if meshes:
            writer.array("vertices_valid", np.tile(there, (images, 1)))
    for number, (name, points) in enumerate((("joints", 21), ("vertices", 778))[: 1 + meshes]):
        shape = (images, NUM_SIDES, points, 3)
        members = [writer.member(name, shape) for writer in writers]
        for block in hands(images):
            for member, array in zip(members, block[number], strict=True):
                member.write(np.where(there[:, None, None], array, np.float32(0)).tobytes())
        for member in members:
            member.close()
    for writer in writers:
        writer.file.close()


Hands = tuple[NDArray[np.float32], NDArray[np.float32]]


def hands(images: int) -> Iterator[tuple[Hands, Hands]]:
    """True and predicted joints, true and predicted vertices, (n, S, K, 3), the same each time."""
    model = HandModel.open()
    for start in range(0, images, BLOCK):
        count = min(BLOCK, images - start)
        generator = torch.Generator().manual_seed(start)
        noise = torch.randn(count, NUM_SIDES, 16 + 10 + 3 + 3, 3, generator=generator)
        turns = roma.rotvec_to_rotmat(noise[:, :, :16] * 0.3)
        place = noise[:, :, 26] * torch.tensor((0.1, 0.1, 0.05)) + torch.tensor((0.0, 0.0, 0.6))
        state = HandState(turns[:, :, 0], turns[:, :, 1:], noise[:, :, 16:26, 0] * 0.5, place)
        with torch.no_grad():
            true = model(state)
        turn = roma.rotvec_to_rotmat(noise[:, :, 27] * 0.1)
        scale = 1 + 0.05 * noise[:, :, 28, :1, None]
        shift = place[:, :, None] + 0.01 * noise[:, :, 29, None]
        found = []
        for points in (true.joints, true.vertices):
            jitter = torch.randn(points.shape, generator=generator) * 0.004
            moved = scale * (points - place[:, :, None]) @ turn.mT + shift + jitter
            found.append((points.numpy(), moved.numpy()))
        yield found[0], found[1]


class Writer:
    """An npz file whose arrays come in pieces, so that none has to be held."""

    def __init__(self, path: Path) -> None:
        self.file = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)

    def array(self, name: str, array: NDArray[Any]) -> None:
        """A small one."""
        with self.file.open(f"{name}.npy", "w") as member:
            npy.write_array(member, array)

    def member(self, name: str, shape: tuple[int, ...]) -> IO[bytes]:
        """Begin a large one, in 32 bits; its bytes are to be written."""
        member = self.file.open(f"{name}.npy", "w", force_zip64=True)
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(member, header)
        return member


# ---- a plain program -----------------------------------------------------------------------------


def plain(folder: Path, images: int) -> dict[str, float]:
    """HO3D's figures of the first images, one by one."""
    loaded = []
    for name in ("predictions", "truth"):
        with np.load(folder / f"{name}.npz") as file:
            loaded.append([file[key][:images, 0].astype(float) for key in ("joints", "vertices")])
    (predicted_joints, predicted_meshes), (true_joints, true_meshes) = loaded
    errors: dict[str, list[Floats]] = {}
    scores: dict[str, list[float]] = {}
    for p, t, v, w in zip(
        predicted_joints, true_joints, predicted_meshes, true_meshes, strict=True
    ):
        bone = np.linalg.norm(t[MIDDLE] - t[WRIST]) / np.linalg.norm(p[MIDDLE] - p[WRIST])
        mesh = procrustes(w, v)
        for key, found, expected in (
            ("xyz", p, t),
            ("xyz_procrustes", procrustes(t, p), t),
            ("xyz_scale_translation", (p - p[WRIST]) * bone + t[WRIST], t),
            ("mesh", v, w),
            ("mesh_aligned", mesh, w),
        ):
            errors.setdefault(key, []).append(np.linalg.norm(found - expected, axis=-1))
        for key, found in (("mesh", v), ("mesh_aligned", mesh)):
            gaps = np.linalg.norm(w[:, None] - found[None], axis=-1)
            for name, limit in (("f5", 0.005), ("f15", 0.015)):
                recall, precision = (gaps.min(1) < limit).mean(), (gaps.min(0) < limit).mean()
                total = recall + precision
                score = 2 * recall * precision / total if total else 0.0
                scores.setdefault(f"{key}_{name}", []).append(score)
    figures = {key: float(np.mean(values)) for key, values in scores.items()}
    for key, rows in errors.items():
        table = np.stack(rows)
        curve = [float(np.mean(table <= limit)) for limit in np.linspace(0, 0.05, 100)]
        figures[f"{key}_mean_cm"] = 100 * float(table.mean())
        figures[f"{key}_auc"] = float(np.trapz(curve) / 99)
    return figures


def procrustes(true: Floats, predicted: Floats) -> Floats:
    """The best similarity, mirrors among them."""
    a, b = true - true.mean(0), predicted - predicted.mean(0)
    turn, scale = orthogonal_procrustes(a / np.linalg.norm(a), b / np.linalg.norm(b))
    return (b / np.linalg.norm(b)) @ turn.T * scale * np.linalg.norm(a) + true.mean(0)


# ---- the official program ------------------------------------------------------------------------


def write_official(folder: Path, images: int) -> None:
    """The same hands as HO3D's program reads them: its order of joints, OpenGL's axes."""
    lists = {}
    for name in ("predictions", "truth"):
        with np.load(folder / f"{name}.npz") as file:
            lists[name] = [
                (file["joints"][:images, 0][:, HO3D_ORDER] * OPENGL).tolist(),
                (file["vertices"][:images, 0] * OPENGL).tolist(),
            ]
    (folder / "pred.json").write_text(json.dumps(lists["predictions"]))
    (folder / "evaluation_xyz.json").write_text(json.dumps(lists["truth"][0]))
    (folder / "evaluation_verts.json").write_text(json.dumps(lists["truth"][1]))


OFFICIAL = """
import sys, types
checkout, folder, images = sys.argv[1], sys.argv[2], int(sys.argv[3])
sys.path.insert(0, checkout)
for name in ("skimage", "skimage.io"):  # reads pictures, of which there are none here
    sys.modules.setdefault(name, types.ModuleType(name))
sys.modules["skimage"].io = sys.modules["skimage.io"]
import eval as program
program.db_size = lambda *_, **__: images
program.main(folder, folder, folder, "v2")
"""
OFFICIAL_NAMES = {
    "xyz_mean3d": "xyz_mean_cm",
    "xyz_auc3d": "xyz_auc",
    "xyz_procrustes_al_mean3d": "xyz_procrustes_mean_cm",
    "xyz_procrustes_al_auc3d": "xyz_procrustes_auc",
    "xyz_scale_trans_al_mean3d": "xyz_scale_translation_mean_cm",
    "xyz_scale_trans_al_auc3d": "xyz_scale_translation_auc",
    "mesh_mean3d": "mesh_mean_cm",
    "mesh_auc3d": "mesh_auc",
    "mesh_al_mean3d": "mesh_aligned_mean_cm",
    "mesh_al_auc3d": "mesh_aligned_auc",
    "f_score_5": "mesh_f5",
    "f_al_score_5": "mesh_aligned_f5",
    "f_score_15": "mesh_f15",
    "f_al_score_15": "mesh_aligned_f15",
}


def official_figures(folder: Path) -> dict[str, float]:
    """What HO3D's program wrote."""
    lines = (folder / "scores.txt").read_text().split("\n")
    pairs = (line.split(": ") for line in lines if line)
    return {OFFICIAL_NAMES[name]: float(value) for name, value in pairs}


# ---- measuring -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """What a program took.

    Attributes:
        images: that it scored.
        wall: seconds.
        cpu: seconds of all threads.
        memory: MiB, at its peak.
    """

    images: int
    wall: float
    cpu: float
    memory: float

    def line(self, name: str) -> str:
        """Of the table."""
        each = 1e3 * self.cpu / self.images
        return (
            f"{name:28s} {self.images:7d} {self.wall:8.1f} {self.cpu:8.1f} {each:12.2f}"
            f" {self.memory:9.0f}"
        )


# A small process starts the program: until it runs, what it holds is counted as its parent's.
LAUNCHER = """
import os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[
    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)])
_, status, usage = os.wait4(pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
"""


def measured(command: Sequence[str], images: int) -> Row:
    """Run a program to its end.

    Raises:
        SystemExit: it failed.
    """
    start = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    launched = subprocess.run(
        [sys.executable, "-S", "-c", LAUNCHER, *command],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    code, cpu, memory = map(float, launched.stdout.split())
    if code:
        raise SystemExit(f"{' '.join(command[:3])} failed")
    return Row(images, time.perf_counter() - start, cpu, memory)


def ours(folder: Path, protocol: str, out: str) -> list[str]:
    """The command that anybody gives."""
    return [
        *(sys.executable, str(ROOT / "eval.py"), "--protocol", protocol, "--any_count", "true"),
        *("--predictions", str(folder / "predictions.npz"), "--data", str(folder / "truth.npz")),
        *("--out", str(folder / out)),
    ]


def shortened(folder: Path, images: int) -> Path:
    """The first images in files of their own."""
    short = folder / "short"
    short.mkdir()
    for name in ("predictions.npz", "truth.npz"):
        with np.load(folder / name) as file:
            np.savez(short / name, **{k: v if v.ndim == 0 else v[:images] for k, v in file.items()})
    return short


def main(argv: Sequence[str] | None = None) -> None:
    """Run all rows and print them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--protocol", choices=PROTOCOLS, default="ho3d_v2")
    parser.add_argument("--images", type=int, help="the official number by default")
    parser.add_argument("--slow_images", type=int, default=200, help="of the programs beside ours")
    parser.add_argument("--official", type=Path, help="a checkout of HO3D's program")
    parser.add_argument("--no_meshes", action="store_true", help="joints alone")
    parser.add_argument("--plain", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    slow = arguments.slow_images
    if arguments.plain:
        (arguments.plain / "plain.json").write_text(json.dumps(plain(arguments.plain, slow)))
        return
    protocol, single = arguments.protocol, arguments.protocol in SINGLE
    images = arguments.images or PROTOCOLS[protocol].images
    if images is None:
        parser.error(f"{protocol} has no official number of images: say --images")
    if arguments.official and not protocol.startswith("ho3d"):
        parser.error("--official compares HO3D's figures: say --protocol ho3d_v2")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder, images, 1 if single else NUM_SIDES, meshes=not arguments.no_meshes)
        size = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
        print(f"{protocol}: {images} images, both files {size:.0f} MiB")
        print(
            f"{'':28s} {'images':>7s} {'wall s':>8s} {'CPU s':>8s} {'CPU ms/image':>12s} "
            f"{'MiB':>9s}"
        )
        row = measured(ours(folder, protocol, "all"), images)
        print(row.line("eval.py"), flush=True)
        if not single or arguments.no_meshes:
            return
        short = shortened(folder, slow)
        measured(ours(short, protocol, "report"), slow)
        report = json.loads((short / "report" / "benchmark.json").read_text())
        command = [sys.executable, __file__, "--plain", str(short), "--slow_images", str(slow)]
        found = {"image by image": measured(command, slow)}
        figures = {"image by image": json.loads((short / "plain.json").read_text())}
        if arguments.official:
            write_official(short, slow)
            command = [sys.executable, "-c", OFFICIAL, str(arguments.official.resolve())]
            found["HO3D's program"] = measured([*command, str(short), str(slow)], slow)
            figures["HO3D's program"] = official_figures(short)
        for name, other in found.items():
            print(other.line(name))
            off = max(abs(figures[name][key] - value) for key, value in report["figures"].items())
            ratio = (other.cpu / other.images) / (row.cpu / row.images)
            print(f"  figures of the same {slow} images differ by {off:.0e} at most; ours is")
            print(f"  {ratio:.0f} times as fast for each image")


if __name__ == "__main__":
    main()
