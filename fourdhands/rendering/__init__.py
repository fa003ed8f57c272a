"""One renderer for everyone: rendered scenes, overlays, contact sheets."""
