"""Penetration against a slow, exact winding number and against brute force."""

import numpy as np
import torch

from fourdhands.hands.mano import HandModel
from fourdhands.refinement.penetration import Contacts, penetration, vertex_areas


def _winding(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Solid angles of all faces (Van Oosterom and Strackee) over 4 pi."""
    a, b, c = (vertices[faces[:, k]][None] - points[:, None] for k in range(3))
    la, lb, lc = (np.linalg.norm(x, axis=-1) for x in (a, b, c))
    top = (a * np.cross(b, c)).sum(-1)
    bottom = la * lb * lc + (a * b).sum(-1) * lc + (b * c).sum(-1) * la + (c * a).sum(-1) * lb
    return 2 * np.arctan2(top, bottom).sum(-1) / (4 * np.pi)


def _crossing_hands() -> tuple[HandModel, torch.Tensor, torch.Tensor]:
    model = HandModel.open()
    template = torch.stack([torch.from_numpy(s.v_template) for s in model.assets]).double()
    vertices = template + torch.tensor(((0.0, 0, 0), (0.06, 0.006, 0.01))).double()[:, None]
    return model, vertices, vertex_areas(template, model.faces)


def test_inside_is_where_the_other_hand_winds_about() -> None:
    model, vertices, areas = _crossing_hands()
    contacts = Contacts.find(vertices[None], model.closed_faces, areas)
    for side in range(2):
        other = vertices[1 - side].numpy()
        wound = _winding(vertices[side].numpy(), other, model.closed_faces[1 - side].numpy()) > 0.5
        found = np.zeros(len(wound), bool)
        found[contacts.vertex[contacts.side == side].numpy()] = True
        assert wound.any() and (found == wound).all()


def test_no_skin_is_nearer_and_moving_there_is_out() -> None:
    model, vertices, areas = _crossing_hands()
    contacts = Contacts.find(vertices[None], model.closed_faces, areas)
    depth = contacts.depths(vertices[None])
    assert (depth > 0).all()
    for k in range(0, len(contacts), 7):
        side = int(contacts.side[k])
        point = vertices[side, contacts.vertex[k]]
        gaps = (vertices[1 - side] - point).norm(dim=-1)
        assert float(depth[k]) <= float(gaps.min()) + 1e-9
        outside = point + (depth[k] + 1e-5) * contacts.direction[k]
        faces = model.closed_faces[1 - side].numpy()
        assert _winding(outside[None].numpy(), vertices[1 - side].numpy(), faces)[0] < 0.5


def test_hands_apart_cost_nothing_and_clips_stay_apart() -> None:
    model, vertices, areas = _crossing_hands()
    apart = vertices + torch.tensor(((0.0, 0, 0), (1.0, 0, 0))).double()[:, None]
    both = torch.stack((vertices, apart))
    contacts = Contacts.find(both, model.closed_faces, areas)
    energy = penetration(
        both, contacts, torch.ones(2).double(), torch.tensor((0, 1)), 2, margin=0.0
    )
    assert energy[0] > 0 and energy[1] == 0
