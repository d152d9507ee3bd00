"""The book's pages: gathered from executed notebooks, rendered, checked on the reader's machine, and printed."""
