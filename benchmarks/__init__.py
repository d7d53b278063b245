"""Measurements of the server and of the binding, and the model files that they run on."""
