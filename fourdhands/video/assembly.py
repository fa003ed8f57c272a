"""The result of a video, put together from its shots and pairs: the last step of `reconstruct`."""

from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fourdhands.geometry.camera import project
from fourdhands.hands.mano import HandModel
from fourdhands.refinement.camera_motion import CameraMotion
from fourdhands.refinement.clip import RefinedClip
from fourdhands.skeleton import NUM_BETAS, NUM_JOINTS, NUM_SIDES
from fourdhands.structures import HandState
from fourdhands.video.frames import Video
from fourdhands.video.merge import MergedHands, TrackArrays, filled
from fourdhands.video.phases import Arrays
from fourdhands.video.results import VideoHands
from fourdhands.video.search import Search
from fourdhands.video.track import PairTrack

LONGEST_GAP: Final = 2.5
"""Seconds that a hand is filled in where it is not seen."""
AT_ONCE: Final = 512


@dataclass
class Assembly:
    """`VideoHands` in the making.

    Attributes:
        video: the frames.
        hand_model: of the hands.
        refined: whether hands are refined.
        shot: see `VideoHands`, as those that follow.
        values: arrays by their names there.
        intrinsics: one camera for everything.
        times: of the frames.
        scale: of each shot.
        scale_deviation: of each shot.
        filmed: shots whose camera is known.
        texts: by their names there.
        endings: of all tracks.
        notes: for the user.
    """

    video: Video
    hand_model: HandModel
    refined: bool
    shot: NDArray[np.int64]
    values: Arrays
    intrinsics: Tensor
    times: list[float]
    scale: NDArray[np.float64]
    scale_deviation: NDArray[np.float64]
    filmed: set[int] = field(default_factory=set)
    texts: dict[str, str] = field(default_factory=dict)
    endings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def empty(
        cls, video: Video, hand_model: HandModel, refined: bool, found: Search, intrinsics: Tensor
    ) -> "Assembly":
        """Nothing yet."""
        T = len(found.times)
        shots = len(found.shots)
        scale, deviation = np.ones(shots), np.full(shots, np.inf)
        shot = np.zeros(T, np.int64)
        return cls(video, hand_model, refined, shot, {}, intrinsics, found.times, scale, deviation)

    def _grown(self, pairs: int) -> None:
        T, S, J = len(self.times), NUM_SIDES, NUM_JOINTS
        shapes: dict[str, tuple[int, ...]] = {
            "confidence": (), "bbox": (4,), "detected_joints_2d": (J, 2), "joint_confidence": (J,),
            "joints": (J, 3), "joints_in_world": (J, 3),
            "global_orient": (3, 3), "hand_pose": (15, 3, 3), "betas": (NUM_BETAS,), "transl": (3,),
            "global_orient_in_world": (3, 3), "transl_in_world": (3,),
            "frame_global_orient": (3, 3), "frame_hand_pose": (15, 3, 3),
            "frame_betas": (NUM_BETAS,),  "frame_transl": (3,), "frame_joints": (J, 3),
        }  # fmt: skip
        plain = {"valid": bool, "observed": bool, "source": np.int8}
        new = {k: np.zeros((pairs, T, S, *shape), np.float32) for k, shape in shapes.items()}
        new |= {k: np.zeros((pairs, T, S), kind) for k, kind in plain.items()}
        if "cam_from_world" not in self.values:
            self.values["cam_from_world"] = np.tile(np.eye(4, dtype=np.float32), (T, 1, 1))
        for name, array in new.items():
            if name in self.values:
                array[: len(self.values[name])] = self.values[name]
            self.values[name] = array

    def put(
        self,
        g: int,
        number: int,
        start: int,
        pair: PairTrack,
        track: TrackArrays,
        merged: MergedHands,
        refined: RefinedClip | None,
        camera: CameraMotion | None,
    ) -> None:
        """Take a pair over a shot.

        Args:
            g: number of the pair.
            number: of the shot.
            start: its first frame.
            pair: where hands were seen.
            track: the same as arrays.
            merged: hands frame by frame.
            refined: hands over time, if that was asked for.
            camera: its motion; None where it stands still.
        """
        if len(self.values.get("valid", ())) <= g:
            self._grown(g + 1)
        fps, frames = self.video.fps, len(merged.observed)
        cut = slice(start, start + frames)
        left = [(e.frame, int(e.side)) for e in pair.endings if e.reason == "left the image"]
        observed = merged.observed
        if refined is None:
            valid, hands = observed, merged.hands
            poses = np.tile(np.eye(4), (frames, 1, 1))
            poses = poses if camera is None else camera.cam_from_world
            in_world = _to_world(hands, torch.from_numpy(poses).double(), self.hand_model)
        else:
            # refinement may have dropped hands that their own joints contradict
            observed = observed & ~refined.completed[0]
            valid = filled(observed, left, fps, LONGEST_GAP) & refined.present[0]
            hands, in_world = refined.hands[0], refined.hands_in_world[0]
            poses = refined.cam_from_world[0].numpy()
        model = self.hand_model
        joints = _joints(model, hands)
        there = valid.numpy()

        def set_(name: str, value: Tensor, where: NDArray[np.bool_] = there) -> None:
            array = value.detach().cpu().numpy()
            mask = where.reshape(*where.shape, *[1] * (array.ndim - 2))
            self.values[name][g, cut] = np.where(mask, array, 0)

        for name, value in vars(hands).items():
            set_(name, value)
        set_("global_orient_in_world", in_world.global_orient)
        set_("transl_in_world", in_world.transl)
        set_("joints", joints)
        set_("joints_in_world", _joints(model, in_world))
        for name, value in vars(merged.hands).items():
            set_(f"frame_{name}", value, merged.observed.numpy())
        frame_joints = _joints(model, merged.hands)
        set_("frame_joints", frame_joints, merged.observed.numpy())
        self.values["valid"][g, cut] = there
        self.values["observed"][g, cut] = (observed & valid).numpy()
        set_("confidence", merged.confidence)
        self.values["source"][g, cut] = merged.source.numpy() * there
        boxes = torch.where(track.detected[..., None], track.detected_boxes, track.boxes)
        set_("bbox", boxes, (track.detected | track.boxed).numpy())
        set_("detected_joints_2d", merged.joints_2d)
        set_("joint_confidence", merged.joint_confidence)
        if number not in self.filmed:
            self.filmed.add(number)
            self.values["cam_from_world"][cut] = poses
            if refined is not None:
                self.intrinsics = refined.intrinsics[0]
                self.scale[number] = refined.world_scale[0].item()
                self.scale_deviation[number] = refined.world_scale_deviation[0].item()
        self.endings += [
            f"person {g + 1}, {e.side.name.lower()} hand, frame {start + e.frame} "
            f"({self.times[start + e.frame]:.2f} s): {e.reason}"
            for e in pair.endings
        ]

    def finish(self) -> VideoHands:
        """All of it."""
        values = self.values
        joints_2d = (
            project(torch.from_numpy(values["joints"]), self.intrinsics.float()).numpy()
            * values["valid"][..., None, None]
        )
        return VideoHands(
            image_size=np.array(self.video.image_size),
            fps=np.array(self.video.fps),
            times=np.array(self.times),
            shot=self.shot,
            intrinsics=self.intrinsics.numpy().astype(np.float32),
            focal_length_source=np.array(self.texts["focal_length_source"]),
            camera_source=np.array(self.texts["camera_source"]),
            world_scale=self.scale,
            world_scale_deviation=self.scale_deviation,
            joints_2d=joints_2d.astype(np.float32),
            completed=values["valid"] & ~values["observed"],
            refined=np.array(self.refined),
            notes=np.array(self.notes, str),
            endings=np.array(self.endings, str),
            **values,
        )


def _to_world(hands: HandState, cam_from_world: Tensor, model: HandModel) -> HandState:
    """Hands (T, S) of the camera's frame in the world's."""
    back = cam_from_world[:, None, :3, :3].mT
    hands = hands.map(Tensor.double)
    roots = model.roots(hands.map(Tensor.float)).double()
    moved = (back @ (roots - cam_from_world[:, None, :3, 3])[..., None])[..., 0]
    return replace(
        hands,
        global_orient=back @ hands.global_orient,
        transl=moved - (roots - hands.transl),
    )


def _joints(model: HandModel, hands: HandState) -> Tensor:
    """Joints (T, S, 21, 3), some frames at a time: the skin of all takes gigabytes."""
    pieces = range(0, len(hands.transl), AT_ONCE)
    with torch.inference_mode():
        found = [model(hands[k : k + AT_ONCE].map(Tensor.float)).joints for k in pieces]
    return torch.cat(found)
