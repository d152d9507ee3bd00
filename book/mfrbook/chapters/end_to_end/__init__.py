"""End-to-end SAEs (arXiv 2405.12241)."""
