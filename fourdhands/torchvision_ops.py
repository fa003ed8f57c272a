"""Make timm, torchmetrics and Lightning importable where torchvision's operators do not load.

All three import torchvision. Its ordinary wheel is built for CUDA; on a CPU-only torch its compiled
library does not load, and registering the fake kernels of `torchvision::nms` and
`torchvision::qnms` then fails because the operators were never declared. Declaring the two schemas
(no implementation) is enough for the import. We never call them.

The package's `__init__` calls `ensure_torchvision_importable` once, for everyone. It imports
nothing: it leaves a finder that declares the schemas when, and only if, torchvision is imported.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


class _OperatorDeclarer(MetaPathFinder):
    """Finds no module; takes the import of torchvision's fake kernels as the moment to act.

    By then torchvision has tried to load its compiled library, so what is missing stays missing.
    """

    library: Any = None  # the schemas live as long as this object

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "torchvision._meta_registrations":
            import torch

            self.library = torch.library.Library("torchvision", "FRAGMENT")
            for name, schema in _SCHEMAS.items():
                if not hasattr(torch.ops.torchvision, name):
                    self.library.define(schema)
        return None


def ensure_torchvision_importable() -> None:
    """Arrange that importing torchvision succeeds without its compiled operators."""
    if not any(isinstance(finder, _OperatorDeclarer) for finder in sys.meta_path):
        sys.meta_path.insert(0, _OperatorDeclarer())
