"""The messages that the server process and the engine process exchange."""
