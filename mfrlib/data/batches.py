"""Sources of batches: each gives tensors `(batch, d_in)`, nothing more, and knows nothing of SAEs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # planning does without torch
    from torch import Tensor

SHARDS = 8
"""Fixed parts of every batch. Randomness belongs to (seed, step, shard), so that one, two, four or eight processes that
share a batch out among them see the same data."""

ALL_SHARDS = tuple(range(SHARDS))


class Batches(Protocol):
    """What `mfrlib.training.loop.train` needs of data: a batch for every step, a pure function of step and shard.

    Because `batch(step)` depends on the source's own settings and on `step` only, a resumed run sees the same data
    without replaying anything.
    """

    @property
    def d_in(self) -> int:
        """Width of a batch."""

    @property
    def id(self) -> str:
        """Declared identity of the data: part of a run's key, so that a reader without the data finds the archive."""

    def batch(self, step: int, shards: Sequence[int] = ALL_SHARDS) -> "Tensor":
        """Return the float32 batch `(batch, d_in)` of a training step (steps count from 0), or some of its shards."""


def rows(batch_size: int, shard: int) -> range:
    """Return which rows of a batch are those of a shard: sizes differ by one at most."""
    return range(shard * batch_size // SHARDS, (shard + 1) * batch_size // SHARDS)
