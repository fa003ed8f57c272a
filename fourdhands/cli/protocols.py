"""`fourdhands protocols`: the benchmarks whose rules `eval.py --protocol` can go by."""

from collections.abc import Iterator

from fourdhands.evaluation.benchmark import find_protocol
from fourdhands.evaluation.protocols import PROTOCOLS, Protocol


def list_protocols(names: tuple[str, ...] = ()) -> None:
    """List the benchmarks, or state the rules of some.

    Args:
        names: Of benchmarks; a line on each of all if none is given.

    Raises:
        ValueError: A name is unknown.
    """
    if not names:
        width = max(map(len, PROTOCOLS))
        for one in PROTOCOLS.values():
            print(f"{one.name:<{width}}  {one.title}, {one.dataset} {one.split}: {_images(one)}")
        return
    print("\n\n".join("\n".join(_rules(find_protocol(name))) for name in names))


def _images(protocol: Protocol) -> str:
    if not protocol.counts:
        return "number of images not known"
    return " or ".join(f"{count:,} images ({of})" for of, count in protocol.counts.items())


def _rules(protocol: Protocol) -> Iterator[str]:
    yield f"{protocol.name}: {protocol.title}"
    tips = ", ".join(map(str, protocol.tips or ()))
    for what, rule in (
        ("data", f"{protocol.dataset} {protocol.split}"),
        ("images", _images(protocol)),
        ("root", protocol.root),
        ("scaling", protocol.scaling),
        ("joints", protocol.joints),
        ("meshes", protocol.meshes or "not looked at"),
        ("fingertips", f"vertices {tips} of meshes" if tips else "as the other joints"),
        ("counted", protocol.validity),
        ("note", protocol.note),
    ):
        if rule:
            yield f"  {what:<10}  {rule}"
    for column in protocol.columns:
        unit = "" if column.name.endswith(")") else " (0 to 1)"
        yield f"    {column.key}: {column.name}{unit}, {column.points}"
