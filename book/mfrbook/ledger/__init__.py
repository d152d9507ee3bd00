"""The claims of the papers, and what answers each."""
