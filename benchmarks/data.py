"""Hand crops a second that one core serves for training, and the memory that takes.

    python benchmarks/data.py data/quickstart/train.json
    python benchmarks/data.py --tar .../freihand-train/000000.tar --hamer ../hamer --mano data/hands

All rows read the same images in the same run: ours and the plain loader from shards that
`fourdhands convert hamer` makes of tars in HaMeR's format, HaMeR's own loader from these tars.
Without `--tar` one is made from the frames of a set, enlarged to the size of photographs. Crops are
256 x 256, augmented as HaMeR does (left and right are not swapped at random). Each row runs in a
process of its own, as one worker: speed in seconds of processor time, once its shuffle buffer is
full; memory at its peak, above what the process held when it had served a first batch without any
buffer (Linux only).

The plain loader is what one writes first: it decodes every array of every sample, turns the whole
image, cuts each hand's crop out of that, and makes tensors sample by sample. It does not shuffle.

`--hamer` names a checkout of https://github.com/geopavlakos/hamer, whose `load_tars_as_webdataset`
then runs with the settings of its own yaml files, its shuffle buffer and its batch size. Of what
that imports, `yacs`, `braceexpand` and `skimage` are replaced by the few lines below where they are
not installed: a dictionary with attributes, no expansion, and functions that are never called.
HaMeR's loader runs the pickles in the tars: give it no tars that you do not trust.
"""

import argparse
import importlib
import importlib.util
import io
import itertools
import json
import multiprocessing
import pickle
import platform
import sys
import tarfile
import tempfile
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import roma
import torch
import webdataset
import yaml

from fourdhands.cli.main import main as fourdhands
from fourdhands.data.augment import AugmentConfig
from fourdhands.data.datamodule import ClipDataModule, DataConfig
from fourdhands.data.manifest import find_shards
from fourdhands.data.schema import ARRAYS, decode_clip
from fourdhands.data.shards import frames_and_labels, read_samples
from fourdhands.skeleton import Side

CROP_SIZE = (256, 256)
BATCH_SIZE = 8
HAMER_BUFFER = 4000
BOX_MARGIN = 1.2
WIDTHS = (500, 1000)
NOISE = 4.0
AUGMENT = AugmentConfig(rotation=30, scale=0.3, shift=0.02, tint=0.2)


# ---- loaders -------------------------------------------------------------------------------------


class Loader(ABC):
    """A row of the table."""

    name: str
    buffer: int

    @abstractmethod
    def batches(self, buffer: int) -> Iterator[int]:
        """Numbers of hand crops, batch by batch, without end."""


@dataclass
class Ours(Loader):
    """The stream of training."""

    name: str
    summary: Path
    buffer: int

    def batches(self, buffer: int) -> Iterator[int]:
        """See `Loader`."""
        config = DataConfig(
            train=(self.summary,),
            num_frames=1,
            gap=1,
            batch_size=BATCH_SIZE,
            num_workers=0,
            steps_per_epoch=10**9,
            shuffle_buffer=buffer,
            bbox_scale=BOX_MARGIN,
            augment=AUGMENT,
        )
        for batch in ClipDataModule(config, CROP_SIZE).train_dataloader():
            yield int(batch.hand_present.sum())


@dataclass
class Plain(Loader):
    """The same work in the obvious way (boxes and images only; labels stay as they are)."""

    name: str
    summary: Path
    buffer: int = 1

    def batches(self, buffer: int) -> Iterator[int]:
        """See `Loader`."""
        urls = [str(path) for path in find_shards(self.summary, self.summary.parent).shards]
        rng = np.random.default_rng(0)
        while True:
            samples = iter(webdataset.WebDataset(urls, shardshuffle=False))
            while batch := list(itertools.islice(samples, BATCH_SIZE)):
                clips = [plain_clip(sample, rng) for sample in batch]
                yield int((torch.utils.data.default_collate(clips)["bbox"][..., 2] > 0).sum())


def plain_clip(sample: dict[str, Any], rng: np.random.Generator) -> dict[str, torch.Tensor]:
    """The first frame of a clip as float tensors."""
    arrays = {name: np.load(io.BytesIO(sample[f"{name}.npy"])) for name in ARRAYS}
    angle, (height, width) = rng.uniform(-30, 30), CROP_SIZE
    crops = np.zeros((2, 3, height, width), np.float32)
    image = cv2.imdecode(np.frombuffer(sample["000.jpg"], np.uint8), cv2.IMREAD_COLOR)
    size = image.shape[1::-1]
    turn = cv2.getRotationMatrix2D((size[0] / 2, size[1] / 2), angle, 1)
    image = cv2.warpAffine(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), turn, size)
    for side, (x, y, box_width, box_height) in enumerate(arrays["bbox"][0]):
        if box_width > 0:
            scale = width / (BOX_MARGIN * max(box_width, box_height * width / height))
            affine = np.array(
                [[scale, 0, width / 2 - scale * x], [0, scale, height / 2 - scale * y]]
            )
            crop = cv2.warpAffine(image, affine, (width, height))
            crop = crop[:, ::-1] if side else crop
            crops[side] = crop.transpose(2, 0, 1) * rng.uniform(0.8, 1.2)
    return {
        "crops": torch.from_numpy(crops),
        **{name: torch.from_numpy(array[0]) for name, array in arrays.items()},
    }


@dataclass
class Hamer(Loader):
    """HaMeR's loader, as its data module uses it."""

    name: str
    checkout: Path
    tars: list[Path]
    buffer: int

    def batches(self, buffer: int) -> Iterator[int]:
        """See `Loader`."""
        dataset_type, settings = import_hamer(self.checkout)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stream = dataset_type.load_tars_as_webdataset(
                settings, [str(tar) for tar in self.tars], train=True, resampled=True
            )
        if buffer > 1:
            stream = stream.shuffle(buffer)
        loader = torch.utils.data.DataLoader(stream, BATCH_SIZE, drop_last=True, num_workers=0)
        for batch in loader:
            yield len(batch["img"])


# ---- HaMeR ---------------------------------------------------------------------------------------


class Settings(dict[str, Any]):
    """Stands in for `yacs.config.CfgNode`: entries are attributes, too."""

    def __init__(self, values: dict[str, Any] | None = None, **_: Any):
        super().__init__(values or {})

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


def import_hamer(checkout: Path) -> tuple[Any, Settings]:
    """HaMeR's class `ImageDataset`, and the settings of its training.

    Raises:
        FileNotFoundError: the folder is no checkout of HaMeR.
        ModuleNotFoundError: its loader needs a package that is not there.
    """
    settings = Settings()
    for name in (
        "experiment/default.yaml",
        "experiment/hamer_vit_transformer.yaml",
        "data_filtering/low1.yaml",
    ):
        path = checkout / "hamer" / "configs_hydra" / name
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; --hamer has to name a checkout of HaMeR")
        _merge(settings, yaml.safe_load(path.read_text()))
    for name, contents in _stand_ins().items():
        package = name.partition(".")[0]
        if package in sys.modules or importlib.util.find_spec(package) is None:
            module = sys.modules.setdefault(name, ModuleType(name))
            module.__dict__.update(contents)
    sys.path.insert(0, str(checkout))
    try:
        module = importlib.import_module("hamer.datasets.image_dataset")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{checkout}: HaMeR's loader cannot be imported, the package {error.name!r} is missing"
        ) from None
    finally:
        sys.path.remove(str(checkout))
    return module.ImageDataset, settings


def require_hamer(checkout: Path) -> None:
    """Find out before anything is made whether HaMeR's loader can run here; see `import_hamer`."""
    import_hamer(checkout)


def _stand_ins() -> dict[str, dict[str, Any]]:
    """Contents of modules, by name; a package comes before its modules."""

    def never(*_: Any, **__: Any) -> None:
        raise NotImplementedError("only HaMeR's options that are off need scikit-image")

    return {
        "yacs": {"__path__": []},
        "yacs.config": {"CfgNode": Settings},
        "braceexpand": {"braceexpand": lambda pattern: [pattern]},
        "skimage": {"__path__": []},
        "skimage.transform": {"rotate": never, "resize": never},
        "skimage.filters": {"gaussian": never},
    }


def _merge(into: Settings, values: dict[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, dict):
            _merge(into.setdefault(name, Settings()), value)
        else:
            into[name] = value


# ---- the images ----------------------------------------------------------------------------------


def write_tar(path: Path, source: Path, count: int) -> None:
    """Write images and labels as HaMeR's tars hold them, from the frames of a set of shards."""
    rng = np.random.default_rng(0)
    with tarfile.open(path, "w") as tar:
        for k, (image, hands) in enumerate(itertools.islice(_images(source, rng), count)):
            quality = [cv2.IMWRITE_JPEG_QUALITY, 90]
            jpg = cv2.imencode(".jpg", image, quality)[1].tobytes()
            for ending, data in (("jpg", jpg), ("data.pyd", pickle.dumps(hands))):
                info = tarfile.TarInfo(f"{k:06d}.{ending}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def _images(
    source: Path, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray[Any, Any], list[dict[str, Any]]]]:
    """Frames again and again, each time of another size and with other noise."""
    shards = find_shards(source, source.parent).shards
    for sample in itertools.chain.from_iterable(
        read_samples(shard, frames_and_labels) for shard in itertools.cycle(shards)
    ):
        clip = decode_clip(sample)
        for t, jpg in enumerate(clip.frames):
            hands = [side for side in Side if clip.joints_2d_valid[t, side].sum() > 4]
            if not hands:
                continue
            frame = cv2.imdecode(np.frombuffer(jpg, np.uint8), cv2.IMREAD_COLOR)
            factor = rng.uniform(*WIDTHS) / frame.shape[1]
            image = cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
            image = image + rng.normal(0, NOISE, image.shape)
            exact = np.array(image.shape[1::-1]) / frame.shape[1::-1]
            yield (
                image.clip(0, 255).astype(np.uint8),
                [_labels(clip, t, side, exact) for side in hands],
            )


def _labels(clip: Any, t: int, side: Side, factor: np.ndarray[Any, Any]) -> dict[str, Any]:
    points = (clip.joints_2d[t, side] + 0.5) * factor - 0.5
    known = clip.joints_2d_valid[t, side]
    low, high = points[known].min(0), points[known].max(0)
    joints = clip.joints[t, side] - clip.joints[t, side, :1]
    turns = np.concatenate((clip.global_orient[t, side][None], clip.hand_pose[t, side]))
    pose = roma.rotmat_to_rotvec(torch.from_numpy(turns).double()).numpy().ravel()
    return {
        "keypoints_2d": np.column_stack((points, known)).astype(np.float32),
        "keypoints_3d": np.column_stack((joints, clip.joints_valid[t, side])).astype(np.float32),
        "center": ((low + high) / 2).astype(np.float32),
        "scale": ((high - low) * BOX_MARGIN / 200).astype(np.float32),
        "hand_pose": pose.astype(np.float32),
        "betas": clip.betas[t, side].astype(np.float32),
        "has_hand_pose": np.float32(clip.hands_valid[t, side]),
        "has_betas": np.float32(clip.betas_valid[t, side]),
        "right": np.float32(side is Side.RIGHT),
        "extra_info": {},
    }


def convert(tars: Sequence[Path], folder: Path, mano: Path | None) -> tuple[Path, int]:
    """Make shards of tars; the set's summary, and how many images there are."""
    raw = folder / "tars"
    raw.mkdir(exist_ok=True)
    for k, tar in enumerate(tars):
        link = raw / f"{k:06d}.tar"
        if not link.exists():
            link.symlink_to(tar.resolve())
    flags = ["--root", str(raw), "--out", str(folder / "shards"), "--workers", "1"]
    flags += ["--tolerance", "100", *(["--mano", str(mano)] if mano else [])]
    if fourdhands(["convert", "hamer", *flags]):
        raise ValueError(f"{tars[0]}: could not be converted")
    report = json.loads((folder / "shards" / "train-report.json").read_text())
    return folder / "shards" / "train.json", int(report["frames"])


# ---- measuring -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figures:
    """What a row shows.

    Attributes:
        speed: hand crops a second of processor time.
        memory: MiB.
    """

    speed: float
    memory: float


def measure(loader: Loader, seconds: float) -> Figures:
    """Run a loader in this process."""
    next(loader.batches(1))  # code that is loaded when it is first used is nobody's data
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    held = _memory("VmRSS")
    batches = loader.batches(loader.buffer)
    served = 0
    while served < loader.buffer:
        served += next(batches)
    start, crops = time.process_time(), 0
    while (spent := time.process_time() - start) < seconds or not crops:
        crops += next(batches)
    return Figures(crops / max(spent, 1e-9), _memory("VmHWM") - held)


def _memory(field: str) -> float:
    """MiB that this process holds (VmRSS) or held at most (VmHWM); NaN where nobody tells."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


def apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function in a process of its own, so that nothing of it stays in this one.

    Raises:
        SystemExit: it failed; tells why.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_result, args=(sender, work, arguments))
    process.start()
    sender.close()
    try:
        result, error = receiver.recv()
    except EOFError:
        result, error = None, "a row did not finish: see above, or it was killed for its memory"
    process.join()
    if error:
        raise SystemExit(error)
    return result


def _send_result(sender: Connection, work: Callable[..., Any], arguments: Any) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    try:
        sender.send((work(*arguments), None))
    except (OSError, ValueError, ImportError) as error:
        sender.send((None, str(error)))


def main(argv: Sequence[str] | None = None) -> None:
    """Run all rows and print them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "set",
        type=Path,
        nargs="?",
        default=Path("data/quickstart/train.json"),
        help="summary (.json) of the set whose frames become a tar, if there is no --tar",
    )
    parser.add_argument("--tar", type=Path, nargs="+", help="tars of HaMeR's training data")
    parser.add_argument("--hamer", type=Path, help="a checkout of HaMeR to compare with")
    parser.add_argument("--mano", type=Path, help="folder of `fourdhands hands import`")
    parser.add_argument("--images", type=int, default=1000, help="in the tar that is made")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each row, buffers filled")
    parser.add_argument(
        "--buffer", type=int, default=HAMER_BUFFER, help="HaMeR's; 4000 takes 5 GB and some minutes"
    )
    arguments = parser.parse_args(argv)
    if arguments.hamer:
        apart(require_hamer, arguments.hamer)
    with tempfile.TemporaryDirectory() as name:
        folder, tars = Path(name), arguments.tar
        if not tars:
            tars = [folder / "made.tar"]
            apart(write_tar, tars[0], arguments.set, arguments.images)
        summary, images = apart(convert, tars, folder, arguments.mano)
        buffer = DataConfig().shuffle_buffer
        rows: list[Loader] = [
            Plain("plain loader", summary),
            Ours("fourdhands", summary, buffer),
        ]
        if arguments.hamer:
            rows += [
                Ours("fourdhands, HaMeR's buffer", summary, arguments.buffer),
                Hamer("HaMeR", arguments.hamer, tars, arguments.buffer),
            ]
        size = sum(tar.stat().st_size for tar in tars) / images / 1024
        print(
            f"{platform.machine()}, OpenCV {cv2.__version__}, one core; {images} images of "
            f"{size:.0f} KiB, crops of {CROP_SIZE[0]} x {CROP_SIZE[1]}\n"
            f"{'':28s} {'buffer':>6s} {'crops/s':>9s} {'MiB':>7s}"
        )
        found = {}
        for row in rows:
            one = found[row.name] = apart(measure, row, arguments.seconds)
            print(f"{row.name:28s} {row.buffer:6d} {one.speed:9.0f} {one.memory:7.0f}", flush=True)
        if arguments.hamer:
            hamer = found["HaMeR"]
            for row in rows[1:3]:
                one = found[row.name]
                print(
                    f"{row.name}: {one.speed / hamer.speed:.1f} times HaMeR's speed in "
                    f"1/{hamer.memory / max(one.memory, 1):.1f} of its memory"
                )


if __name__ == "__main__":
    main()
