"""OpenAI's responses: the wire structs, their checks, streams that can be resumed, and what is
kept of them."""
