"""Grammars and regular expressions of callers, read and written anew in llguidance's Lark."""
