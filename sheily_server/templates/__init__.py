"""Renders conversations as prompts, with a folder for each family of models. Knows no tokenizer."""
