"""Finds the fastest settings for a model on this machine: `python -m sheily_native.tune MODEL`."""
