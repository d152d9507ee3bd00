"""Section 4.1 on a real language model, SmolLM2: runs, measures, tables, and its features to look at."""
