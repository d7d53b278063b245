"""The server's end of the engine process: keeps it alive, admits requests, delivers events."""
