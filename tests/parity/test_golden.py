"""Imports against outputs of the peers' own modules, stored by `tests.parity.compare`."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.parity.numbers import weights_for
from tests.parity.ours import imported, outputs

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("peer", ["hamer", "omnihands"])
def test_imported_networks_say_what_the_peers_own_modules_say(peer: str, tmp_path: Path) -> None:
    with np.load(GOLDEN / f"{peer}.npz") as file:
        theirs = {name: torch.from_numpy(file[name]) for name in file.files if name != "made"}
        made = json.loads(str(file["made"]))
    predictor = imported(peer, weights_for(made["shapes"]), tmp_path, slim=True)
    mine = outputs(peer, predictor)
    mine["tokens"], mine["vertices"] = mine["tokens"][:, :, ::16], mine["vertices"][:, :, ::4]
    for quantity, value in theirs.items():
        torch.testing.assert_close(mine[quantity], value, atol=1e-4, rtol=0, msg=quantity)
