"""The text that the embedded language model is trained on: the docstrings on this machine, none of them on both sides."""

import hashlib
import itertools
import platform
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from mfrbook.experiments import docstrings

PARAGRAPH = 80
"""Characters from which on a paragraph that both splits hold is a leak rather than a phrase."""


class Corpus(NamedTuple):
    """The text of a run."""

    train: list[str]
    held_out: list[str]
    """Shares no paragraph with `train`."""

    @property
    def hash(self) -> str:
        """SHA-256 of both sides, in order."""
        digest = hashlib.sha256()
        for text in (*self.train, "\0", *self.held_out):
            digest.update(text.encode() + b"\0")
        return digest.hexdigest()


def corpus(n_documents: int) -> Corpus:
    """Return so many documents of either side, or all for 0, which takes ten seconds."""
    asked = n_documents or None
    trained = list(itertools.islice(docstrings.documents("train"), asked))
    # A tenth of the modules is held out; where little is trained on, little is looked through.
    held_out = itertools.islice(docstrings.documents("held-out"), asked)
    return Corpus(trained, list(unseen(held_out, trained)))


def unseen(held_out: Iterable[str], trained: Iterable[str]) -> Iterator[str]:
    """Yield the held-out documents that share no paragraph of `PARAGRAPH` characters with those trained on."""
    leaks = {digest for text in trained for digest in _paragraphs(text)}
    for text in held_out:
        if leaks.isdisjoint(_paragraphs(text)):
            yield text


def _paragraphs(text: str) -> set[bytes]:
    paragraphs = (" ".join(one.split()) for one in text.split("\n\n"))
    return {hashlib.sha256(one.encode(errors="surrogatepass")).digest() for one in paragraphs if len(one) >= PARAGRAPH}


def versions() -> dict[str, str | None]:
    """Return the versions that decide the text; None for a package that is not installed, which is left out."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in docstrings.PACKAGES:
        try:
            found[name] = version(name).partition("+")[0]
        except PackageNotFoundError:
            found[name] = None
    return found
