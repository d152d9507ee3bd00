"""Sequences of tokens, all of one length."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Sequences:
    """Sequences of tokens.

    Attributes
    ----------
    tokens : ndarray (sequence, position), uint16 or uint32
    id : str
        Identity: model, text and split.
    bos : bool
        Whether every sequence starts with the beginning-of-sequence token.
    n_documents : int
        Documents they are made of.
    model : str
        Identity of the model that they were cut for; empty where it is not known.
    """

    tokens: NDArray[np.unsignedinteger]
    id: str
    bos: bool
    n_documents: int
    model: str = ""

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
