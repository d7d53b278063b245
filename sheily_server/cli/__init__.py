"""Commands besides the server itself."""
