"""Motion of fingers without images: generated, recorded, stored in shards, cut into windows."""
