"""Vectors of EEG windows as a source of batches: an epoch visits each window once, in an order of its own."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mfrlib.config import require
from mfrlib.data.batches import ALL_SHARDS, rows
from mfrlib.data.eeg.shards import FileShard, MemoryShard


@dataclass(frozen=True, eq=False)
class EEGWindows:
    """Vectors of EEG windows in batches; an epoch visits each window once, in an order of its own."""

    shards: tuple[FileShard | MemoryShard, ...]
    id: str
    """Declared identity of the data."""
    d_in: int
    batch_size: int
    seed: int
    """Of the order of the windows."""

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        require(self.batch_size >= 1, "batch_size", self.batch_size, "must be 1 or more")
        require(self.seed >= 0, "seed", self.seed, "must be 0 or more")
        require(self.n_windows >= 1, "shards", len(self.shards), "must hold at least one window")

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum([shard.n_vectors for shard in self.shards], dtype=np.int64)

    @property
    def n_windows(self) -> int:
        """Number of unique windows (vectors)."""
        return int(self._ends[-1]) if self.shards else 0

    @property
    def subjects(self) -> tuple[str, ...]:
        """Names of the subjects, sorted."""
        return tuple(sorted({shard.subject for shard in self.shards}))

    @property
    def recordings(self) -> tuple[str, ...]:
        """Names of the recordings."""
        return tuple(shard.recording for shard in self.shards)

    @property
    def hash(self) -> str:
        """SHA-256 over names and contents of the recordings: provenance, no part of the identity."""
        lines = "".join(f"{shard.source_sha256}  {shard.recording}\n" for shard in self.shards)
        return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()

    def epochs(self, steps: int) -> float:
        """Return how often `steps` batches go through the windows."""
        return steps * self.batch_size / self.n_windows

    def batch(self, step: int, shards: Sequence[int] = ALL_SHARDS) -> Tensor:
        """Return the float32 batch of a step, `(batch_size, d_in)`, or some of its shards; it may span two epochs."""
        require(step >= 0, "step", step, "must be 0 or more")
        mine = [row for one in shards for row in rows(self.batch_size, one)]
        positions = step * self.batch_size + np.array(mine, dtype=np.int64)
        windows = np.empty_like(positions)
        for epoch in np.unique(positions // self.n_windows):
            here = positions // self.n_windows == epoch
            windows[here] = shuffled(positions[here] % self.n_windows, self.n_windows, self.seed, int(epoch))
        return self.take(windows)

    def iterate(self, batch_size: int = 1024) -> Iterator[Tensor]:
        """Go through all windows once, in order: for measures on held-out subjects."""
        for first in range(0, self.n_windows, batch_size):
            yield self.take(np.arange(first, min(first + batch_size, self.n_windows)))

    def take(self, windows: NDArray[np.int64]) -> Tensor:
        """Return windows by their number, float32 `(len(windows), d_in)`."""
        out = np.empty((len(windows), self.d_in), dtype=np.float32)
        owner = np.searchsorted(self._ends, windows, side="right")
        for i in np.unique(owner):
            shard, mine = self.shards[i], owner == i
            out[mine] = shard.read(windows[mine] - (self._ends[i] - shard.n_vectors))
        return torch.from_numpy(out)


def shuffled(positions: NDArray[np.int64], n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return where positions 0 … n − 1 go in the permutation of a seed and an epoch.

    A Feistel network of six rounds on the smallest even number of bits that holds n, walked until the value
    falls below n (Black and Rogaway 2002, doi:10.1007/3-540-45760-7_9). It needs no memory, where a stored
    permutation needs 8 bytes per window and epoch.
    """
    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))
    mask = (np.uint64(1) << half) - np.uint64(1)
    keys = np.random.SeedSequence([seed, epoch]).generate_state(6, np.uint64)

    def permute(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = x >> half, x & mask
        for key in keys:
            mixed = (right ^ key) * np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
            left, right = right, left ^ ((mixed ^ (mixed >> np.uint64(32))) & mask)
        return (left << half) | right

    out = permute(np.asarray(positions).astype(np.uint64))
    while (outside := out >= n).any():
        out[outside] = permute(out[outside])
    return out.astype(np.int64)
