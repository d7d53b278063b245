"""Tracks what the KV cells hold, and for whom; only integers."""
