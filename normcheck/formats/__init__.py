"""The formats that a saved model is read from, without running anything of it.

Each file reads one format; all of them end in the values of :mod:`normcheck.saved.checkpoint`.
"""
