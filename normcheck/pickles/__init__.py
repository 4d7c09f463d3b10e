"""Pickles, read by a machine that cannot call anything, and the models in what they hold."""
