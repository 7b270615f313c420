"""Lexical retrieval: one backend a file."""
