"""Archived pages of features, as the book shows them."""

import re


def retouched(page: str) -> str:
    """Return a fragment that a run keeps, set as the rest of the book.

    A heading is below its section's, with a capital; minus signs are true ones. Of each SAE the middle feature is open, which
    is neither the rarest nor dense.
    """
    page = "<h2>".join(_middle_open(part) for part in page.split("<h2>"))
    page = re.sub(r"<h2>(.)(.*?)</h2>", lambda found: f"<h3>{found[1].upper()}{found[2]}</h3>", page)
    page = re.sub(r"((?:&nbsp;|\(cosine ))-(?=\d)", r"\1−", page)
    return re.sub(r"\b1 activations\b", "1 activation", page)


def _middle_open(part: str) -> str:
    before, *features = re.split(r"<details(?: open)?>", part)
    tags = ("<details open>" if place == len(features) // 2 else "<details>" for place in range(len(features)))
    return before + "".join(tag + feature for tag, feature in zip(tags, features, strict=True))
