"""Trained checkpoints as predictors for others."""
