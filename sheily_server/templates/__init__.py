"""Conversations as prompts, one file for each family of models; knows no tokenizer."""
