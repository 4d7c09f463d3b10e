"""Residual sums in files without a graph: blocks, what flows between them, and what fits."""
