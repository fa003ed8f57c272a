"""Where hands to compare come from: files, labels of converted sets, a network's answers."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from fourdhands.data.manifest import ShardSet
from fourdhands.data.schema import Clip
from fourdhands.data.stream import read_lane
from fourdhands.evaluation.predictions_file import load_samples
from fourdhands.evaluation.protocols import Protocol
from fourdhands.evaluation.refined import observed_batch
from fourdhands.evaluation.samples import HandSamples
from fourdhands.export.predictor import HoldingPredictor, Predictor
from fourdhands.geometry.camera import project
from fourdhands.hands.mano import HandModel
from fourdhands.structures import ClipBatch, ClipMeta, HandState


def require_split(protocol: Protocol, sets: Sequence[ShardSet]) -> None:
    """Make sure that sets are those that a protocol is about.

    Raises:
        ValueError: one is another split, or of another data set.
    """
    for one in sets if protocol.dataset else ():
        splits = {shard.name.rsplit("-", 1)[0] for shard in one.shards}
        dataset = next(read_lane(one.shards[:1], 0, 1)).clip.dataset
        same = f"{dataset}-".startswith(f"{protocol.dataset}-")
        if not same or splits != {protocol.split}:
            raise ValueError(
                f"{one.name}: is {dataset} {', '.join(sorted(splits))}, {protocol.title} is counted"
                f" on {protocol.dataset} {protocol.split}; say --any_count true to score it "
                "nevertheless"
            )


def truth_of(sources: Sequence[Path | ShardSet], hand_model: HandModel) -> HandSamples:
    """The labels of files (npz) or of converted sets.

    Args:
        sources: where the truth is.
        hand_model: gives meshes where a set brings none, but MANO parameters.
    """
    parts = []
    for source in sources:
        if isinstance(source, Path):
            parts.append(load_samples(source))
        else:
            clips = (stored.clip for stored in read_lane(source.shards, 0, 1))
            labelled = [
                labels_of(clip, hand_model) for clip in tqdm(clips, desc="labels", leave=False)
            ]
            parts.append(counted_in_steps(joined(labelled)))
    return joined(parts)


@torch.inference_mode()
def predictions_of(
    predictor: Predictor | HoldingPredictor,
    batches: Iterable[ClipBatch],
    *,
    meshes: bool,
    target: int | None = None,
    direct: bool = False,
) -> HandSamples:
    """What a network says of all frames of the data; of hands without a box, too.

    Args:
        predictor: of the hands.
        batches: each frame once, in the target's slot if there is one.
        meshes: whether anybody will look at the vertices.
        target: the slot of each window that is asked for; None for all of them.
        direct: whether `joints_2d` are the 2D branch's own, with its confidence, for refinement,
            and not the projected hands.
    """
    parts = []
    asked = slice(None) if target is None else slice(target, target + 1)
    for window in tqdm(batches, desc="predict", unit=" batches"):
        predictions = predictor(window)
        hands = predictions.hands[:, asked]
        batch = window if target is None else window.at_slot(target)
        geometry = predictor.hand_model(hands)
        there = batch.frame_valid
        intrinsics = batch.camera.intrinsics.to(geometry.joints)[:, :, None]
        frames = [
            (meta, number)
            for meta, numbers, valid in zip(
                batch.meta, (one.frame_ids for one in batch.meta), there.tolist(), strict=True
            )
            for number, is_frame in zip(numbers, valid, strict=True)
            if is_frame
        ]
        joints, vertices = geometry.joints.cpu()[there], geometry.vertices.cpu()[there]
        always = torch.ones(joints.shape[:-1], dtype=torch.bool)
        parts.append(
            HandSamples(
                joints=joints,
                joints_valid=always,
                vertices=vertices if meshes else vertices[:, :, :0],
                vertices_valid=always[..., 0] & meshes,
                joints_2d=project(geometry.joints, intrinsics).cpu()[there],
                joints_2d_valid=always,
                handedness=batch.hand_present[there].float(),
                sequence=torch.tensor([_number_of(meta) for meta, _ in frames]),
                frame=torch.tensor([number for _, number in frames]),
                fps=torch.tensor([meta.fps for meta, _ in frames]),
                cam_from_world=torch.eye(4).expand(len(frames), 4, 4),
                area=torch.zeros(len(frames)),
                hands=hands.to("cpu")[there],
                names=tuple(name_of(meta, number) for meta, number in frames),
            )
        )
        if direct:
            assert isinstance(predictor, Predictor)  # a hand is held or refined
            clip = observed_batch(predictor, window, predictions).to("cpu")
            seen = clip.joints_2d_confidence[:, asked][there]
            parts[-1] = replace(
                parts[-1],
                joints_2d=clip.joints_2d[:, asked][there],
                joints_2d_valid=seen > 0,
                joints_2d_confidence=seen,
                confidence=clip.confidence[:, asked][there],
                intrinsics=batch.camera.intrinsics.cpu()[there],
            )
    return counted_in_steps(joined(parts))


def joined(parts: Sequence[HandSamples]) -> HandSamples:
    """Several as one; sequences keep apart only if their numbers differ.

    Raises:
        ValueError: there is nothing, or an image comes twice.
    """
    if not parts:
        raise ValueError("the benchmark is empty: there is no image to score")
    largest = max(part.vertices.shape[2] for part in parts)
    if any(part.vertices.shape[2] != largest for part in parts):
        raise ValueError("some of the truth has meshes and some has none; score them apart")
    names = tuple(name for part in parts for name in part.names)
    if len(set(names)) != len(names):
        raise ValueError("an image comes twice; give each of the data once")
    if len(parts) == 1:
        return parts[0]  # which may stay in its file
    return replace(HandSamples.cat(parts), names=names, file=None)


def counted_in_steps(samples: HandSamples) -> HandSamples:
    """Number the frames of each sequence so that neighbours differ by 1.

    Data sets that were recorded at 90 frames a second and published at 30 number their frames by 3.
    The step is the usual difference of a sequence; two frames that lie further apart differ by 2
    at least.
    """
    order = samples.in_order()
    sequence, frame = samples.sequence[order], samples.frame[order].clone()
    starts = [0, *(sequence.diff().nonzero()[:, 0] + 1).tolist(), len(samples)]
    for start, end in pairwise(starts):
        gaps = frame[start:end].diff()
        if len(gaps) and (step := int(gaps.mode().values)) > 1:
            steps = torch.where(gaps == step, 1, (-(-gaps // step)).clamp_min(2))
            frame[start + 1 : end] = frame[start] + steps.cumsum(0)
    return replace(samples, frame=torch.empty_like(frame).index_copy(0, order, frame))


def name_of(meta: ClipMeta, frame_id: int) -> str:
    """Of an image in files of predictions."""
    return f"{meta.sequence}/{meta.camera}/{frame_id}"


def labels_of(clip: Clip, hand_model: HandModel) -> HandSamples:
    """The labels of a clip's frames, with meshes where it brings any, or MANO parameters."""
    state = HandState(
        *(torch.tensor(getattr(clip, n)) for n in ("global_orient", "hand_pose", "betas", "transl"))
    )
    posed = clip.hands_valid & clip.betas_valid & clip.roots_valid
    own = clip.vertices_valid
    identity = torch.eye(3)
    there = torch.tensor(posed)
    state = HandState(
        torch.where(there[..., None, None], state.global_orient, identity),
        torch.where(there[..., None, None, None], state.hand_pose, identity),
        state.betas,
        state.transl,
    )
    with torch.no_grad():
        device = hand_model.mean_pose.device
        vertices = hand_model(state.to(device)).vertices.cpu().numpy()
    if clip.vertices is not None:
        vertices = np.where(own[..., None, None], clip.vertices, vertices)
    valid = posed | own
    count = clip.num_frames
    shown = clip.hands_shown
    if shown is None:
        shown = (clip.bbox[..., 2] > 0) | clip.joints_valid.any(-1)
    area = np.zeros(count, np.float32) if clip.person_area is None else clip.person_area
    return HandSamples(
        joints=torch.tensor(clip.joints),
        joints_valid=torch.tensor(clip.joints_valid),
        vertices=torch.from_numpy(np.where(valid[..., None, None], vertices, 0.0)),
        vertices_valid=torch.from_numpy(valid),
        handedness=torch.from_numpy(shown.astype(np.float32)),
        sequence=torch.full((count,), _number_of(clip.meta), dtype=torch.int64),
        frame=torch.tensor(clip.frame_ids),
        fps=torch.full((count,), clip.fps),
        joints_2d=torch.tensor(clip.joints_2d),
        joints_2d_valid=torch.tensor(clip.joints_2d_valid),
        cam_from_world=torch.tensor(clip.cam_from_world),
        area=torch.tensor(area),
        names=tuple(name_of(clip.meta, number) for number in clip.frame_ids),
    )


def _number_of(meta: ClipMeta) -> int:
    """The same for all clips of a recording."""
    digest = hashlib.blake2b(f"{meta.sequence}\0{meta.camera}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
