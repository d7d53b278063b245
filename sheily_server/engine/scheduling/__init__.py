"""Decides which tokens of which sequences the next step computes; only integers and seconds."""
