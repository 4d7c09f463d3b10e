"""Healthy networks that resemble sick ones: trained once, so that no test hangs on a training.

``python -m tests.live.probes.networks.build`` trains them again.
"""
