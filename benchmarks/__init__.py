"""Measurements of the engine, of the server, and of single parts."""
