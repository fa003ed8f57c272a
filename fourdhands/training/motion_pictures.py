"""Pictures of the motion prior at every validation: film strips, an animation, statistics."""

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fourdhands.evaluation.motion_plots import draw_statistics
from fourdhands.evaluation.report import save_image
from fourdhands.files import replacing
from fourdhands.hands.mano import HandModel
from fourdhands.models.motion_prior.prior import MotionPrior
from fourdhands.rendering.overlay import PAPER, draw_hands, grid
from fourdhands.skeleton import NUM_BETAS, Side
from fourdhands.structures import HandState

Bytes = NDArray[np.uint8]

CELL = 112  # pixels
STRIP = 12  # frames of a film strip
ANIMATED_FPS = 15.0
HIDDEN = 32  # frames at 30 a second
INK = {"hidden": (196, 80, 60), "seen": (70, 70, 70)}
# from MANO's frame to the camera: fingers up, the palm and a little of the thumb's side in view
_VIEW = np.array(((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)))
_DISTANCE = 0.6


class MotionPictures(pl.Callback):
    """Draws what a prior makes of validation windows: `pictures/step-000100*`.

    Args:
        folder: of the run.
        count: windows to draw; 0 for no pictures.
        hand_model: makes the meshes.
    """

    def __init__(self, folder: Path, count: int, hand_model: HandModel) -> None:
        self.folder, self.count, self.hand_model = folder / "pictures", count, hand_model
        self.outputs: dict[str, Any] | None = None

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Remember the windows."""
        self.outputs = outputs

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the pictures of this validation; the animation once, at the run's end."""
        outputs, self.outputs = self.outputs, None
        if outputs is None or not trainer.is_global_zero or not self.count:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        stem = f"step-{trainer.global_step:06d}"
        prior, rotations = outputs["prior"], outputs["rotations"][outputs["valid"].all(1)]
        films = make_films(prior, rotations[: self.count])
        save_image(draw_strips(films, self.hand_model), self.folder / f"{stem}.png")
        write_animation(films, self.hand_model, self.folder / f"{stem}.webp")
        draw_statistics(
            prior, outputs["skeleton"], rotations, self.folder / f"{stem}-statistics.png"
        )


class Film:
    """A sequence of right hands with what was hidden of it.

    Args:
        title: a few words.
        poses: (T, 15, 3, 3).
        hidden: (T,) frames that nobody saw.
        seconds: (T,).
    """

    def __init__(self, title: str, poses: Tensor, hidden: Tensor, seconds: Tensor) -> None:
        self.title, self.poses, self.hidden, self.seconds = title, poses, hidden, seconds


@torch.no_grad()
def make_films(prior: MotionPrior, rotations: Tensor) -> list[Film]:
    """Truth, reconstruction and completion of windows (N, T, 15, 3, 3), and as many samples."""
    times = prior.vae.grid
    count, right = len(rotations), (Side.RIGHT,)
    seen = torch.ones(count, len(times), dtype=torch.bool)
    hidden = HIDDEN / 30
    if hidden + 1 > float(times[-1]):
        hidden = float(times[-1]) / 4
    border = (float(times[-1]) - hidden) / 2
    mask = (times < border) | (times >= border + hidden)
    mask = mask.expand(count, -1)
    poses = rotations[:, :, None]
    encoded = prior.encode(poses, seen[..., None].to(mask.device), times, right)
    rebuilt = prior.decode(encoded.mean, times, right, encoded.starts)[:, :, 0]
    completed = prior.complete(poses, mask[..., None], times, right)[:, :, 0]
    generator = torch.Generator().manual_seed(0)
    drawn = prior.sample(count, times, right, generator=generator)[:, :, 0]
    none = torch.zeros(len(times), dtype=torch.bool)
    films = []
    for k in range(count):
        films += [
            Film("true", rotations[k], ~mask[k].cpu(), times),
            Film("reconstructed", rebuilt[k], none, times),
            Film("completed", completed[k], ~mask[k].cpu(), times),
        ]
    return films + [Film("sampled", poses, none, times) for poses in drawn]


def draw_strips(films: list[Film], hand_model: HandModel) -> Bytes:
    """Each film as a row of frames; a bar marks those that were hidden."""
    rows = []
    for film in films:
        chosen = np.linspace(0, len(film.poses) - 1, STRIP).round().astype(int)
        cells = draw_poses(film.poses[chosen], hand_model)
        for cell, frame in zip(cells, chosen, strict=True):
            cell[-4:] = INK["hidden" if film.hidden[frame] else "seen"]
        rows.append(np.hstack(cells))
    return grid(rows, 1, [film.title for film in films])


def write_animation(films: list[Film], hand_model: HandModel, path: Path) -> None:
    """All films side by side, as an animated webp that repeats."""
    seconds = float(films[0].seconds[-1])
    moments = np.arange(0, seconds, 1 / ANIMATED_FPS)
    columns = []
    for film in films:
        frames = np.searchsorted(film.seconds.cpu().numpy(), moments).clip(0, len(film.poses) - 1)
        cells = draw_poses(film.poses[frames], hand_model)
        for cell, frame in zip(cells, frames, strict=True):
            cell[-4:] = INK["hidden" if film.hidden[frame] else "seen"]
        columns.append(cells)
    across = 3 if len(films) % 3 == 0 or len(films) % 4 == 0 else len(films)
    titles = [film.title for film in films]
    pictures = [
        Image.fromarray(grid([column[k] for column in columns], across, titles))
        for k in range(len(moments))
    ]
    with replacing(path) as partial:
        pictures[0].save(
            partial,
            format="WEBP",
            save_all=True,
            append_images=pictures[1:],
            duration=round(1000 / ANIMATED_FPS),
            loop=0,
            quality=60,
        )


@torch.no_grad()
def draw_poses(poses: Tensor, hand_model: HandModel) -> list[Bytes]:
    """One picture of a right hand for each pose (T, 15, 3, 3)."""
    count = len(poses)
    eye = torch.eye(3).expand(count, 2, 3, 3)
    pair = torch.eye(3).expand(count, 2, 15, 3, 3).clone()
    pair[:, Side.RIGHT] = poses.cpu().float()
    state = HandState(eye, pair, torch.zeros(count, 2, NUM_BETAS), torch.zeros(count, 2, 3))
    vertices = hand_model.to("cpu")(state).vertices.numpy().astype(np.float64)
    wrist = hand_model.roots(state).numpy()
    seen = (vertices - wrist[:, :, None] - (-0.085, 0, 0)) @ _VIEW.T + (0, 0, _DISTANCE)
    focal, centre = 2.5 * CELL, (CELL - 1) / 2
    intrinsics = np.array(((focal, 0, centre), (0, focal, centre), (0, 0, 1)))
    paper = np.full((CELL, CELL, 3), PAPER, np.uint8)
    present = np.array((True, False))
    return [draw_hands(paper, frame, present, intrinsics, opacity=1.0) for frame in seen]
