"""Tensors and their element types."""
