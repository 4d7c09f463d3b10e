"""Smooth random images, and what a first norm tells of them."""
