"""Text as sequences of a model's tokens."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mfrlib.config import require
from mfrlib.data.packing import pack
from mfrlib.data.text import EMBEDDED, Split, TextError, documents, text_id
from mfrlib.language_model import LanguageModel

SAMPLE = "sample"


@dataclass(frozen=True)
class Sequences:
    """Sequences of tokens.

    Attributes
    ----------
    tokens : ndarray (sequence, position), uint16 or uint32
    id : str
        Declared identity: model, text and split.
    bos : bool
        Whether every sequence starts with the beginning-of-sequence token.
    n_documents : int
        Documents they are made of.
    """

    tokens: NDArray[np.unsignedinteger]
    id: str
    bos: bool
    n_documents: int

    def __len__(self) -> int:
        """Return the number of sequences."""
        return len(self.tokens)

    @property
    def length(self) -> int:
        """Tokens in a sequence."""
        return self.tokens.shape[1]

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the tokens."""
        return hashlib.sha256(np.ascontiguousarray(self.tokens, dtype="<u4").tobytes()).hexdigest()

    def take(self, rows: NDArray[np.int64]) -> Tensor:
        """Return the sequences asked for, int64 `(len(rows), position)`."""
        return torch.from_numpy(self.tokens[rows].astype(np.int64))

    def iterate(self, batch_size: int = 16) -> Iterator[Tensor]:
        """Yield all sequences in order, int64 `(≤ batch_size, position)`."""
        for start in range(0, len(self), batch_size):
            yield torch.from_numpy(self.tokens[start : start + batch_size].astype(np.int64))


def open_sequences(
    model: LanguageModel,
    text: str = EMBEDDED,
    split: Split = "train",
    *,
    n_sequences: int,
    length: int = 128,
    bos: bool = True,
) -> Sequences:
    """Return a text as sequences of a model's tokens.

    Documents are tokenised and packed without padding; see `mfrlib.data.packing.pack`.

    Parameters
    ----------
    model : LanguageModel
        Whose tokenizer is used.
    text, split
        As `mfrlib.data.text.documents` has them; or text `sample`: drawn from the model itself at temperature 1.
    n_sequences, length : int
        How many, and how long, the beginning-of-sequence token included.
    bos : bool
        Whether every sequence starts with the beginning-of-sequence token.

    Raises
    ------
    TextError
        If the text is empty or too short, saying how many sequences it gives, or cannot be read.
    ConfigError
        If a sequence would not fit into the model's context, or the model has no such token.
    """
    require(n_sequences >= 1, "n_sequences", n_sequences, "must be 1 or more")
    require(2 <= length <= model.context, "length", length, f"must be from 2 to the model's context of {model.context}")
    require(not bos or model.bos is not None, "bos", bos, f"must be false: {model.id} has no such token")
    require(split in ("train", "held-out"), "split", split, "must be 'train' or 'held-out'")
    if text == SAMPLE:
        seed = 0 if split == "train" else 1
        tokens = model.sample(n_sequences, length, seed=seed).numpy().astype(_dtype(model))
        return Sequences(tokens, declared_id(model.id, text, split), True, n_sequences)
    found = pack(documents(text, split), model.encode, model.bos, length, n_sequences, bos=bos)
    if len(found.tokens) < n_sequences:
        raise TextError(
            f"text {text!r}, split {split!r}, is too short: its {found.n_documents} documents give {len(found.tokens)} sequences of "
            f"{length} tokens, n_sequences is {n_sequences}. Ask for fewer or shorter ones, or give more text"
        )
    return Sequences(found.tokens.astype(_dtype(model)), declared_id(model.id, text, split), bos, found.n_documents)


def declared_id(model: str, text: str, split: Split) -> str:
    """Return the identity of a data set, which needs no data: `lm:tiny-lm:python-docs:train`.

    The number of sequences, their length and the like belong to a config.
    """
    return f"lm:{model}:{text_id(text) if text != SAMPLE else text}:{split}"


def _dtype(model: LanguageModel) -> type[np.unsignedinteger]:
    return np.uint16 if model.vocabulary <= 2**16 else np.uint32
