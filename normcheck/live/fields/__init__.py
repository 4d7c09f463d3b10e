"""Smooth random images in place of data, and what a model decides on them."""
