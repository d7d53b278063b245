"""What the KV cells hold, and for whom; integers alone."""
