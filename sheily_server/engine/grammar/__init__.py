"""Grammars: tried where they can be killed, compiled once, followed token by token."""
