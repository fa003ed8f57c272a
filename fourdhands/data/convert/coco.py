"""Persons in photographs, as files in COCO's format list them: COCO-WholeBody and Halpe.

A frame holds one person's hands. An image of several persons becomes as many recordings, each with
its own copy of the image.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from fourdhands.data.convert.assemble import decode_image
from fourdhands.data.convert.records import BadFrameError, FrameRecord, HandRecord, Recording
from fourdhands.data.convert.sources import inside, read_image, read_json
from fourdhands.skeleton import Side

Hands = Mapping[Side, HandRecord]
HandsOf = Callable[[Mapping[str, Any]], Hands]
"""The hands of an entry of `annotations`; fails on one that is not as it should be."""


def persons(
    path: Path, images: str, fields: tuple[str, ...], hands_of: HandsOf
) -> Iterator[Recording]:
    """A recording for each person with a labelled hand, named by image and annotation.

    Args:
        path: the json file.
        images: folder of the images, as `read_person` gets it back.
        fields: of an annotation that `hands_of` looks at.
        hands_of: finds the hands of an annotation.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not in COCO's format.
    """
    content = read_json(path)
    if not (isinstance(content, dict) and {"images", "annotations"} <= set(content)):
        raise ValueError(f"{path}: has no lists 'images' and 'annotations' as COCO's files have")
    listed = {
        one["id"]: one
        for one in content["images"]
        if isinstance(one, dict) and isinstance(one.get("id"), int)
    }
    for position, entry in enumerate(content["annotations"]):
        person = entry if isinstance(entry, dict) else {}
        annotation = {name: person[name] for name in fields if name in person}
        try:
            there = bool(hands_of(annotation))
        except (KeyError, TypeError, ValueError):
            there = True  # and left out when it is read, with its reason
        if there:
            number = person.get("image_id")
            image = listed.get(number, {}) if isinstance(number, int) else {}
            name = PurePosixPath(str(image.get("file_name", number))).stem
            known = {key: image[key] for key in ("file_name", "width", "height") if key in image}
            frame = number if isinstance(number, int) else position
            yield Recording(
                f"{name}-{person.get('id', f'entry{position}')}",
                "0",
                ((frame, (images, known, annotation)),),
            )


def read_person(root: Path, source: Any, hands_of: HandsOf) -> FrameRecord:
    """Read one of `persons`.

    Args:
        root: of the download.
        source: of the frame.
        hands_of: as there.

    Raises:
        BadFrameError, KeyError, TypeError, ValueError, OSError: the frame is unusable.
    """
    images, image, annotation = source
    hands = hands_of(annotation)
    encoded = read_image(inside(root / images, image["file_name"]))
    # an image that is turned by its tags has other sides than its labels are for
    height, width = decode_image(encoded).shape[:2]
    if (image.get("width", width), image.get("height", height)) != (width, height):
        raise BadFrameError("the image is not of the size that the labels are for")
    return FrameRecord(encoded, hands, person_area=annotation.get("area"))
