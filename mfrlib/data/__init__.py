"""Sources of batches: each gives tensors `(batch, d_in)`, nothing more, and knows nothing of SAEs."""

from typing import Protocol

from torch import Tensor


class Batches(Protocol):
    """What `mfrlib.training.train` needs of data: a batch for every step, a pure function of the step.

    Because `batch(step)` depends on the source's own settings and on `step` only, a resumed run sees the same data
    without replaying anything.
    """

    @property
    def d_in(self) -> int:
        """Width of a batch."""

    @property
    def id(self) -> str:
        """Declared identity of the data: part of a run's key, so that a reader without the data finds the archive."""

    def batch(self, step: int) -> Tensor:
        """Return the float32 batch `(batch, d_in)` of a training step (steps count from 0)."""
