"""Rendered two-hand clips: motion, placement, cameras, backgrounds, and the shards they go to."""
