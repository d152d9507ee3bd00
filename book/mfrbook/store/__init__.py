"""Runs, kept under a hash of what they are, and where they come from."""
