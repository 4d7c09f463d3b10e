"""Folders that are one checkpoint, as training programs write them."""
