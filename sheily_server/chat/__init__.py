"""A chat turn, from what is asked to the pieces of an answer; knows no HTTP."""
