"""Tiny models of the transformers library, where it is installed."""

from __future__ import annotations


def huggingface_architectures():
    return {}


def huggingface_example_inputs():
    return {}
