"""The files of the prefix cache's disk tier. Knows bytes, keys and a folder; nothing of models,
engines or requests."""
