"""OpenAI's chat completions: the wire structs, their checks, and answers as JSON."""
