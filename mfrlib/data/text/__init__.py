"""Text: documents, and sequences of tokens."""
