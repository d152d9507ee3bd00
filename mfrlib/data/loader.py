"""Data that come in batches of their own, from a DataLoader, a list or a generator: cut into batches for training."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from mfrlib.config import ConfigError, require
from mfrlib.data.batches import ALL_SHARDS, Batches, rows
from mfrlib.data.in_memory import TensorBatches, as_rows, digest


def as_source(data: Any, batch_size: int, seed: int) -> Batches:
    """Return a source of batches for whatever the user gives: see `mfrlib.training.loop.train`.

    Raises ConfigError if it is nothing to train on.
    """
    if hasattr(data, "batch") and hasattr(data, "d_in"):
        return data
    return TensorBatches(data, batch_size, seed) if _is_array(data) else IteratedBatches(data, batch_size)


def _is_array(data: Any) -> bool:
    """Tell an array from an iterable of batches, refusing anything else."""
    if isinstance(data, Tensor) or hasattr(data, "__array__"):
        return True
    known = isinstance(data, Iterable) and not isinstance(data, str | bytes | dict)
    allowed = "must be a tensor or array (n, d_in), an iterable of such batches, such as a DataLoader, or, in training, a source"
    require(known, "data", type(data).__name__, allowed)
    return False


def blocks(data: Any) -> Iterator[Tensor]:
    """Yield tensors `(≤ 16384, d_in)` of a tensor or array `(n, d_in)`, or each batch with rows of an iterable in its own type; ConfigError as `as_rows`."""
    if _is_array(data):
        yield from as_rows(data).split(2**14)
        return
    for number, batch in enumerate(map(_alone, data)):
        dtype = None if isinstance(batch, Tensor) else torch.float32
        if len(x := as_rows(batch, f"batch {number} of the data", dtype, least=0)):
            yield x


class IteratedBatches:
    """Batches of equal size from an iterable of batches of any size, read one after the other.

    The iterable gives tensors or arrays `(any, d_in)`, or tuples of one, as `DataLoader(TensorDataset(x))` does; ConfigError
    if it gives no row, or something else. It may fill the same memory each time: rows are copied before it is asked for more.
    Where it ends it is read again from its start. Rows are neither dropped nor padded: a batch of training may hold the end of
    one batch of the iterable and the start of the next. The `id` says no more than that it is an iterable: `seen` identifies the data.
    """

    def __init__(self, batches: Iterable[Any], batch_size: int) -> None:
        self._iterable, self.batch_size, self._step = batches, batch_size, 0
        self._rows = self._endless()
        self._rest = next(self._rows, torch.empty(0, 0))
        require(len(self._rest) > 0, "data", type(batches).__name__, "must give a row at least")
        self.d_in = self._rest.shape[1]
        self.id = f"iterable:{self.d_in}"
        self._hash: Any = None

    @property
    def begins(self) -> str:
        """Digest of what was read and is not yet given: at first, of the first batch with rows of the iterable."""
        return digest(self._rest)

    @property
    def seen(self) -> str | None:
        """SHA-256 of all rows given until now, what a run was trained on; None unless `resume` was called."""
        return self._hash and self._hash.hexdigest()

    def resume(self, step: int, seen: str | None) -> None:
        """Read what a run has been trained on already, and refuse to go on where that is other data.

        Called before the first batch, also of a new run: from then on rows are hashed.

        Raises ConfigError.
        """
        self._hash = hashlib.sha256(f"{self.d_in}".encode())
        while self._step < step:
            self.batch(self._step)
        if step and self.seen != seen:
            raise ConfigError(
                f"data: the folder holds a run of {step} steps on other data, or on the same in another order. Take another "
                "folder; a loader that shuffles needs a generator with a fixed seed"
            )

    def batch(self, step: int, shards: Sequence[int] = ALL_SHARDS) -> Tensor:
        """Return the next batch, or some of its shards, `(rows, d_in)`; LookupError for another step, ConfigError where rows end for good."""
        if step != self._step:
            raise LookupError(f"step {step} of an iterable is not to be had: the next is {self._step}")
        x, filled = self._rest.new_empty(self.batch_size, self.d_in), 0
        while filled < self.batch_size:
            self._rest = self._rest if len(self._rest) else next(self._rows, self._rest)
            if not len(self._rest):
                raise ConfigError(
                    f"data: an iterator can be read once, and it ended in step {step}. Give what can be read again, such as "
                    f"a list or a DataLoader, more data, or steps of at most {step}"
                )
            part, self._rest = self._rest.tensor_split([self.batch_size - filled])
            x[filled : filled + len(part)] = part
            filled += len(part)
        self._step += 1
        if self._hash:
            self._hash.update(x.cpu().contiguous().numpy())
        chosen = [rows(self.batch_size, shard) for shard in shards]
        return x if tuple(shards) == ALL_SHARDS else torch.cat([x[part.start : part.stop] for part in chosen])

    def _endless(self) -> Iterator[Tensor]:
        width, number = None, 0
        while True:
            begun, empty = iter(self._iterable), True
            for batch in begun:
                x = as_rows(_alone(batch), name := f"batch {number} of the data", least=0)
                width, number = width or x.shape[1], number + 1
                require(x.shape[1] == width, name, tuple(x.shape), f"must have {width} columns")
                if len(x):
                    yield x
                    empty = False
            if empty or begun is self._iterable:
                return


def _alone(batch: Any) -> Any:
    if not isinstance(batch, tuple | list):
        return batch
    allowed = "each must be a tensor or array (rows, d_in), or a tuple of one"
    require(len(batch) == 1, "data", f"a {type(batch).__name__} of {len(batch)}", allowed)
    return batch[0]
