"""Make timm importable where torchvision's compiled operators do not load.

timm imports torchvision. torchvision's ordinary wheel is built for CUDA; on a CPU-only torch its
compiled library does not load, and registering the fake kernels of `torchvision::nms` and
`torchvision::qnms` then fails because the operators were never declared. Declaring the two schemas
(no implementation) is enough for the import. We never call them.
"""

import functools
import importlib

import torch


@functools.cache
def ensure_torchvision_importable() -> None:
    """Import torchvision, declaring its two missing operator schemas first if that is needed."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)  # the schemas live as long as the library object
        importlib.import_module("torchvision")


_declared: list[torch.library.Library] = []
