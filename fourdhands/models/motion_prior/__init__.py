"""The hand-motion prior (HMP): a VAE over finger motion, its use, and the priors it is held against."""
