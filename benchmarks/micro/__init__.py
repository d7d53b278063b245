"""Single parts, each measured alone."""
