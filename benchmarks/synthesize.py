"""Speed of the scene generator, and how well its hands touch.

    python benchmarks/synthesize.py [--seconds 10] [--processes 2] [--scenes 200]

Speed: every row makes clips of 256 x 256 pixels in the same run, after a warm-up, with labels, JPEG
and everything else that goes into a shard. A hand crop is one visible hand in one frame. Rows that
leave something out show what it costs; processor time holds on a busy machine too.

Contact: gap and penetration of both hands, measured exactly in every frame, and hands that pierce
themselves.
"""

import argparse
import platform
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context

import numpy as np
import torch

from fourdhands.data.schema import Clip, encode_clip
from fourdhands.data.synthetic.config import SCENE_KINDS, KindShares, SceneConfig
from fourdhands.data.synthetic.contact import measure_separation
from fourdhands.data.synthetic.generate import ClipGenerator
from fourdhands.data.synthetic.stage import Stage
from fourdhands.hands.anatomy import self_intersections
from fourdhands.hands.mano import HandModel

SCENE = SceneConfig(image_size=(256, 256), masks=False, depth=False)
TWO_HANDS = replace(SCENE, kinds=KindShares(single=0.0))
LABELLED = replace(SCENE, masks=True, depth=True)


def whole_clips(
    config: SceneConfig, num_frames: int = 8, fps: float = 10.0
) -> Callable[[int], tuple[int, int]]:
    """Make clips as they go into shards; counts frames and hand crops."""
    generator = ClipGenerator(config, num_frames=num_frames, fps=fps)

    def make(index: int) -> tuple[int, int]:
        clip: Clip = generator.clip(index)
        encode_clip(clip)
        return clip.num_frames, int(clip.hands_valid.sum())

    return make


def scenes_alone(config: SceneConfig) -> Callable[[int], tuple[int, int]]:
    """Make scenes (motion, contact, camera) without drawing them."""
    stage = Stage(config, HandModel.open(), num_frames=8, fps=10.0)

    def make(index: int) -> tuple[int, int]:
        scene = stage.scene(np.random.default_rng(index))
        return len(scene.times), len(scene.times) * int(scene.present.sum())

    return make


def run(
    prepare: Callable[[], Callable[[int], tuple[int, int]]], seconds: float, worker: int
) -> np.ndarray:
    """Frames, hand crops, seconds and processor seconds of one process."""
    torch.set_num_threads(1)
    make = prepare()
    for index in range(12):
        make(index)
    counts = np.zeros(2)
    start, busy = time.perf_counter(), time.process_time()
    index = 1000 * (worker + 1)
    while time.perf_counter() - start < seconds:
        counts += make(index)
        index += 1
    return np.array([*counts, time.perf_counter() - start, time.process_time() - busy])


def speed(processes: int, seconds: float) -> None:
    """Print the table of speeds."""
    rows: list[tuple[str, Callable[[], Callable[[int], tuple[int, int]]], int]] = [
        ("all, clips of 8 frames", partial(whole_clips, SCENE), processes),
        ("all, one process", partial(whole_clips, SCENE), 1),
        ("all, two hands in every clip", partial(whole_clips, TWO_HANDS), processes),
        ("all, clips of 3 frames", partial(whole_clips, SCENE, 3, 6.0), processes),
        ("all, with masks and depth", partial(whole_clips, LABELLED), processes),
        ("scenes, nothing drawn", partial(scenes_alone, SCENE), processes),
    ]
    print(f"{'256 x 256':32s}{'processes':>10s}{'frames/s':>10s}{'crops/s':>10s}{'ms busy':>10s}")
    for name, prepare, count in rows:
        with ProcessPoolExecutor(count, get_context("spawn")) as pool:
            results = np.stack(list(pool.map(partial(run, prepare, seconds), range(count))))
        frames, crops = (results[:, k] / results[:, 2] for k in (0, 1))
        busy = 1e3 * results[:, 3].sum() / results[:, 0].sum()
        print(f"{name:32s}{count:10d}{frames.sum():10.1f}{crops.sum():10.1f}{busy:10.2f}")


def contact(count: int) -> None:
    """Print how hands touch and pierce, over `count` scenes of each kind."""
    torch.set_num_threads(1)
    model = HandModel.open()
    faces = model.closed_faces.numpy().astype(np.int32)
    print(f"\n{'millimetres':12s}{'touch':>8s}{'depth 50%':>11s}{'99%':>7s}{'most':>7s}"
          f"{'gap 50%':>9s}{'pierced':>9s}")  # fmt: skip
    for kind in SCENE_KINDS[1:]:
        kinds = KindShares(**{other: float(other == kind) for other in SCENE_KINDS})
        stage = Stage(SceneConfig(kinds=kinds), model, num_frames=4, fps=10.0)
        gaps, depths, pierced = [], [], []
        for seed in range(count):
            for right, left in stage.scene(np.random.default_rng(seed)).vertices:
                found = measure_separation(right, faces[0], left, faces[1])
                gaps.append(1e3 * found.gap)
                depths.append(1e3 * found.penetration)
                pierced.append(self_intersections(right, faces[0]) > 0)
        middle, high = np.percentile(depths, (50, 99))
        print(
            f"{kind:12s}{np.mean(np.array(gaps) <= 3):8.2f}{middle:11.2f}{high:7.2f}"
            f"{max(depths):7.2f}{np.median(gaps):9.1f}{np.mean(pierced):9.3f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="per row")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--scenes", type=int, default=200, help="of each kind; 0 for speed alone")
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {arguments.processes} processes")
    speed(arguments.processes, arguments.seconds)
    if arguments.scenes:
        contact(arguments.scenes)
