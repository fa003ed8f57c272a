"""Losses, optimisation and the Lightning modules."""
