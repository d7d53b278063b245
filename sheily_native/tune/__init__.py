"""Finds what computes a model fastest on this machine: `python -m sheily_native.tune MODEL`."""
