"""Folders that are one checkpoint."""
