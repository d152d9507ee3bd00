"""One folder a chapter: its runs, tables, figures and measures."""
