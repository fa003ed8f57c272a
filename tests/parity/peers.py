"""The peers' own modules from a local checkout, with stand-ins for what they import in vain.

Nothing of them is kept here: a checkout of https://github.com/geopavlakos/hamer or
https://github.com/LinDixuan/OmniHands is named on the command line of `compare.py`. The hand model
is the open hand, as MANO's files are not free.
"""

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import smplx
import torch
from torch import Tensor, nn

from fourdhands.hands.assets import load_assets, save_assets
from tests.parity.numbers import uniform


class Node(dict):
    """What yacs' CfgNode is used as."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(name)
        return self[name]


def node(**values: Any) -> Node:
    return Node({k: node(**v) if isinstance(v, dict) else v for k, v in values.items()})


def settings(folder: Path) -> Node:
    """Their released settings, with the open hand and random mean parameters."""
    save_assets(load_assets(), folder / "hand")
    means = folder / "means.npz"
    np.savez(
        means,
        pose=uniform("mean pose", (96,)).numpy(),
        shape=uniform("mean shape", (10,)).numpy(),
        cam=np.array([9.0, 0.0, 0.0], np.float32),
    )
    decoder = {"depth": 6, "heads": 8, "mlp_dim": 1024, "dim_head": 64, "dropout": 0.0}
    decoder |= {"emb_dropout": 0.0, "norm": "layer", "context_dim": 1280}
    return node(
        exp_name="parity",
        MANO={
            "MODEL_PATH": str(folder / "hand" / "MANO_RIGHT.npz"),
            "EXT": "npz",
            "NUM_HAND_JOINTS": 15,
            "MEAN_PARAMS": str(means),
            "CREATE_BODY_POSE": False,
        },
        EXTRA={"FOCAL_LENGTH": 5000},
        LOSS_WEIGHTS={"ADVERSARIAL": 0},
        MODEL={
            "IMAGE_SIZE": 256,
            "SEQ_LEN": 9,
            "BACKBONE": {"TYPE": "vit"},
            "MANO_HEAD": {"TYPE": "transformer_decoder", "TRANSFORMER_DECODER": decoder},
        },
    )


def build(peer: str, checkout: Path, folder: Path, *, slim: bool) -> nn.Module:
    """A peer's whole module in evaluation mode.

    Args:
        peer: 'hamer' or 'omnihands'.
        checkout: its repository.
        folder: for files that it reads.
        slim: two blocks of each kind in place of all.
    """
    cfg = settings(folder)
    package = "hamer" if peer == "hamer" else "hands_4d"
    sys.path.insert(0, str(checkout))
    _stand_in("yacs")
    _stand_in("yacs.config", CfgNode=Node)
    for name in ("utils", "models", "datasets"):  # without what their __init__ imports
        _stand_in(f"{package}.{name}", path=checkout / package / name)
    utils = sys.modules[f"{package}.utils"]
    utils.SkeletonRenderer = utils.MeshRenderer = None
    for name in (
        "renderer",
        "renderer_intag",
        "mesh_renderer",
        "skeleton_renderer",
        "render_openpose",
    ):
        _stand_in(f"{package}.utils.{name}", Renderer=lambda *_, **__: None, cam_crop_to_full=None)
    if peer == "omnihands":
        _stand_in("hands_4d.datasets.relighted_dataset", batch_rodrigues=None)
        _stand_in("hands_4d.datasets.relighted_mano", MANO=lambda **_: _TwoLayers(cfg))
    models = sys.modules[f"{package}.models"]
    models.MANO = importlib.import_module(f"{package}.models.mano_wrapper").MANO
    backbones = importlib.import_module(f"{package}.models.backbones")
    if slim:
        cfg.MODEL.MANO_HEAD.TRANSFORMER_DECODER["depth"] = 2
        backbones.create_backbone = lambda _: _vit(backbones.vit, depth=2)
    module = importlib.import_module(
        f"{package}.models.{'hamer' if peer == 'hamer' else 'Hands4D'}"
    )
    if slim:
        module.create_backbone = backbones.create_backbone
    built = (module.HAMER if peer == "hamer" else module.Hands4D)(cfg, init_renderer=False)
    if slim and peer == "omnihands":
        for stack in (built.mano_head.inter_attn, built.time_head.temp_decoder.transformer):
            stack.layers = stack.layers[:2]
    built.eval()
    return built


def _vit(made_by: Any, depth: int) -> nn.Module:
    vit = sys.modules[made_by.__module__].ViT
    return vit(
        img_size=(256, 192), patch_size=16, embed_dim=1280, depth=depth, num_heads=16, ratio=1,
        mlp_ratio=4, qkv_bias=True, drop_path_rate=0.55,
    )  # fmt: skip


class _TwoLayers:
    """What they take from their MANO wrapper."""

    def __init__(self, cfg: Node) -> None:
        arguments = {"ext": "npz", "use_pca": False, "flat_hand_mean": False, "is_rhand": True}
        layer = smplx.MANO(cfg.MANO.MODEL_PATH, **arguments)
        self.layer = {"right": layer, "left": layer}
        self.sh_joint_regressor = load_assets()[0].J_regressor[_PARTLY]
        self.faces = layer.faces


_PARTLY = [0, 13, 14, 15, 15, 1, 2, 3, 3, 4, 5, 6, 6, 10, 11, 12, 12, 7, 8, 9, 9]
"""MANO's joints in their order, the last of each finger twice in place of its tip."""


def _stand_in(name: str, path: Path | None = None, **attributes: Any) -> None:
    module = types.ModuleType(name)
    vars(module).update(attributes)
    if path is not None:
        module.__path__ = [str(path)]
    sys.modules[name] = module


def normalised(crops: Tensor) -> Tensor:
    """ImageNet's mean and deviation."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (crops / 255 - mean[:, None, None]) / std[:, None, None]
