"""The hand-motion prior (HMP): a VAE over finger motion, its use, its rivals."""
