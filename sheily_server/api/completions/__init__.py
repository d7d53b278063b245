"""OpenAI's completions of raw prompts: the wire structs, their checks, and answers as JSON."""
