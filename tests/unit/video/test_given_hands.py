"""A file of boxes in place of a detector."""

from pathlib import Path

import numpy as np
import pytest

from fourdhands.skeleton import NUM_JOINTS, Side
from fourdhands.video.given_hands import GivenHands

IMAGE = np.zeros((50, 100, 3), np.uint8)


def given(tmp_path: Path, text: str) -> GivenHands:
    path = tmp_path / "hands.csv"
    path.write_text(text)
    return GivenHands(path)


def test_hands_come_in_their_frames_whatever_their_order(tmp_path: Path) -> None:
    joints = ",".join(f"{k},{k + 0.5},0.25" for k in range(NUM_JOINTS))
    detector = given(
        tmp_path,
        "frame,side,score,x,y,width,height\n"
        f"2, Left, 0.5, 10, 20, 4, 1, {joints}\n"
        "# a remark\n\n"
        "0,right,1,3,4,5,6\n",
    )
    (first,) = detector(IMAGE)
    assert first.side is Side.RIGHT and first.bbox.tolist() == [5, 6.5, 5, 6]
    assert first.joints_2d is None
    detector.restart()
    assert detector(IMAGE) == []
    (third,) = detector(IMAGE)
    assert third.side is Side.LEFT and third.score == 0.5
    assert third.joints_2d is not None and third.joint_scores is not None
    assert third.joints_2d[3].tolist() == [3, 3.5] and third.joint_scores[3] == 0.25


@pytest.mark.parametrize(
    "line",
    ["0,right,1,3,4,5", "0,both,1,3,4,5,6", "-1,right,1,3,4,5,6", "0,right,1,3,4,0,6",
     "0,right,2,3,4,5,6", "0,right,nan,3,4,5,6", "0,right,1,3,4,5,6,7", "a,right,1,3,4,5,6"],
)  # fmt: skip
def test_lines_that_are_no_hand_are_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(ValueError, match=r"hands\.csv: line 2 is not frame,side"):
        given(tmp_path, f"0,right,1,3,4,5,6\n{line}\n")


def test_files_and_boxes_that_cannot_be_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        GivenHands(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="no boxes"):
        given(tmp_path, "frame,side,score,x,y,width,height\n")
    (tmp_path / "hands.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not a text file"):
        GivenHands(tmp_path / "hands.csv")
    with pytest.raises(ValueError, match="frame 0: the right hand's box lies outside"):
        given(tmp_path, "0,right,1,100,4,5,6\n")(IMAGE)
