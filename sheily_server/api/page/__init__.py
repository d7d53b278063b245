"""GET /: what a browser shows of this server, and the same for programs."""
