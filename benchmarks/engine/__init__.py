"""How fast the engine decodes, beside peers and the bounds of the machine."""
