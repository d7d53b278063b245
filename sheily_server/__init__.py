"""A local, OpenAI-compatible server for one Llama model on the CPU."""
