"""From per-frame predictions to smooth, physical hands in the world; read `refine.py` first."""
