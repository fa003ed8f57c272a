"""Photographs and video: finding hands, predicting, drawing."""
