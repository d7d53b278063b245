"""Commands beside the server itself."""
