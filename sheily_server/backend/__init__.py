"""The server's end of the engine process: keeps it alive, admits requests, hands out events."""
