"""The responses that are kept for later requests: in memory, or in a file."""
