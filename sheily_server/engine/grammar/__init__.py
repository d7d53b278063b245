"""Grammars: tried in processes that can be killed, compiled once, followed token by token."""
