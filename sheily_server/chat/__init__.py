"""Chat turns, from a request to the pieces of its answers. Knows no HTTP."""
