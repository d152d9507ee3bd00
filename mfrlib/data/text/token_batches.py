"""Batches of whole sequences of tokens, for objectives that run the language model themselves."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from mfrlib.config import whole
from mfrlib.data.batches import ALL_SHARDS, rows
from mfrlib.data.text.sequences import Sequences
from mfrlib.randomness import TOKEN_SEQUENCES, Orders


class TokenBatches:
    """Batches of sequences, every one seen once before any is seen again.

    Parameters
    ----------
    sequences : Sequences
    d_in : int
        Width of the activations that SAEs are trained on.
    batch_size : int
        Sequences per step.
    seed : int
        Of the order, which is another one in each epoch.

    Attributes
    ----------
    id : str
        Identity of the text, of the sequences that it was cut into, and of their order.
    """

    def __init__(self, sequences: Sequences, d_in: int, *, batch_size: int, seed: int = 0) -> None:
        self.sequences, self.d_in, self.batch_size, self.seed = sequences, d_in, whole("batch_size", batch_size), seed
        self.id = f"{sequences.id}:seed={seed}:tokens={sequences.hash[:16]}"
        self._orders = Orders(len(sequences), seed, TOKEN_SEQUENCES)

    def batch(self, step: int, shards: Sequence[int] = ALL_SHARDS) -> Tensor:
        """Return the int64 tokens `(sequence, position)` of a training step, or of some of its shards."""
        picked = []
        for row in (row for shard in shards for row in rows(self.batch_size, shard)):
            epoch, place = divmod(step * self.batch_size + row, len(self.sequences))
            picked.append(int(self._orders[epoch][place]))
        return self.sequences.take(np.array(picked, dtype=np.int64))

    def epochs(self, steps: int) -> float:
        """Return how often a run of so many steps sees every sequence."""
        return steps * self.batch_size / len(self.sequences)
