"""Addresses, read from real servers of this machine."""
