"""A saved model, read without running it.

Nothing in this package imports torch or calls anything that a file names. One module
reads one format; all of them end in the values of :mod:`normcheck.checkpoint.model`.
"""
