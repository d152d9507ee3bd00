"""Sequences of tokens, all of one length, and batches of them for objectives that run the language model themselves."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mfrlib.config import whole
from mfrlib.data.batches import ALL_SHARDS, rows
from mfrlib.randomness import TOKEN_SEQUENCES, Orders


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


class TokenBatches:
    """Batches of `batch_size` sequences, every one seen once before any is seen again, in another order of the seed in each epoch.

    `d_in` is the width of the activations that SAEs are trained on. The `id` is the identity of the text, of the sequences that
    it was cut into, and of their order.
    """

    def __init__(self, sequences: Sequences, d_in: int, *, batch_size: int, seed: int = 0) -> None:
        self.sequences, self.d_in, self.batch_size, self.seed = sequences, d_in, whole("batch_size", batch_size), seed
        self.id = f"{sequences.id}:seed={seed}:tokens={sequences.hash[:16]}"
        self._orders = Orders(len(sequences), seed, TOKEN_SEQUENCES)

    def batch(self, step: int, shards: Sequence[int] = ALL_SHARDS) -> Tensor:
        """Return the int64 tokens `(sequence, position)` of a training step, or of some of its shards."""
        positions = [step * self.batch_size + row for shard in shards for row in rows(self.batch_size, shard)]
        return self.sequences.take(self._orders.at(torch.tensor(positions, dtype=torch.int64)).numpy())

    def epochs(self, steps: int) -> float:
        """Return how often a run of so many steps sees every sequence."""
        return steps * self.batch_size / len(self.sequences)
