"""Archived pages of features, as the book shows them."""

import re


def retouched(page: str) -> str:
    """Return a fragment that a run keeps, set as the rest of the book: a heading below its section's, with a capital; true minus signs."""
    page = re.sub(r"<h2>(.)(.*?)</h2>", lambda found: f"<h3>{found[1].upper()}{found[2]}</h3>", page)
    page = re.sub(r"((?:&nbsp;|\(cosine ))-(?=\d)", r"\1−", page)
    return re.sub(r"\b1 activations\b", "1 activation", page)
