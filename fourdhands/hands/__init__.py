"""The hand model: MANO through smplx, its assets, the open hand, and hand anatomy."""
