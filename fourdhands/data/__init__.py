"""Shards, manifests, the data stream and rendered scenes."""
