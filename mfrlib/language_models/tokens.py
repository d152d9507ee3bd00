"""Text as sequences of a model's tokens."""

import os
from collections.abc import Iterable

import numpy as np

from mfrlib.config import checked, require, whole
from mfrlib.data.identity import OWN, Identity, joined
from mfrlib.data.text import documents as texts
from mfrlib.data.text.documents import Split, TextError
from mfrlib.data.text.packing import pack
from mfrlib.data.text.sequences import Sequences
from mfrlib.language_models.language_model import LanguageModel


def open_sequences(
    model: LanguageModel, text: str | os.PathLike[str] | Iterable[str], split: Split = "train", *,
    n_sequences: int, length: int = 128, bos: bool = True, identity: Identity | None = None,
) -> Sequences:  # fmt: skip
    """Return a text as sequences of a model's tokens.

    Documents are tokenised and packed without padding; see `mfrlib.data.text.packing.pack`.

    Parameters
    ----------
    model : LanguageModel
        Whose tokenizer is used.
    text, split
        As `mfrlib.data.text.documents.documents` has them; or documents, those of the side asked for, cleaned like others
        (`mfrlib.data.text.documents.cleaned`).
    n_sequences, length : int
        How many, and how long, the beginning-of-sequence token included.
    bos : bool
        Whether every sequence starts with the beginning-of-sequence token.
    identity : Identity, optional
        What the text is called; by default that of files or data sets, and `own` for documents.

    Raises
    ------
    TextError
        If the text is empty or too short, saying how many sequences it gives, or cannot be read.
    ConfigError
        If a sequence would not fit into the model's context, or the model has no such token.
    """
    whole("n_sequences", n_sequences)
    allowed = f"must be from 2 to the model's context of {model.context}"
    require(2 <= whole("length", length) <= model.context, "length", length, allowed)
    require(not bos or model.bos is not None, "bos", bos, f"must be false: {model.id} has no such token")
    checked({"split": split}, {"split": Split})
    named = os.fspath(text) if isinstance(text, str | os.PathLike) else None
    known = named is not None or isinstance(text, Iterable)
    require(known, "text", type(text).__name__, "must be a name, a path, or documents")
    identity = identity or (Identity(OWN) if named is None else texts.identity_of(named))
    documents = texts.cleaned(text) if named is None else texts.documents(named, split)  # type: ignore[arg-type]
    found = pack(documents, model.encode, model.bos, length, n_sequences, bos=bos)
    its = identity_of_sequences(model.identity, identity, split)
    if len(found.tokens) < n_sequences:
        raise TextError(
            f"text {(named or identity.name)!r}, split {split!r}, is too short: its {found.n_documents} documents give {len(found.tokens)} sequences of "
            f"{length} tokens, n_sequences is {n_sequences}. Ask for fewer or shorter ones, or give more text"
        )
    whose = joined(str(model.identity), model.identity)
    return Sequences(found.tokens.astype(token_type(model)), its, bos, found.n_documents, whose)


def identity_of_sequences(model: str | Identity, text: str | Identity, split: Split) -> str:
    """Return the identity of a data set, `lm:tiny-lm:python-docs:train`, or `lm:own:own:train:sha256:0123456789abcdef`.

    The number of sequences, their length and the like belong to a config.
    """
    return joined(f"lm:{model}:{text}:{split}", model, text)


def token_type(model: LanguageModel) -> type[np.unsignedinteger]:
    """Return the smallest type that holds a model's tokens."""
    return np.uint16 if model.vocabulary <= 2**16 else np.uint32
