"""Corpora: sources of text, and the documents that fit a model's context."""
