"""Data that the user holds: a tensor or an array of rows, turned into batches that training can go back to."""

import hashlib
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mfrlib.config import ConfigError, require, whole
from mfrlib.data.batches import ALL_SHARDS, rows
from mfrlib.randomness import ROWS, Orders


class TensorBatches:
    """Batches of the rows of a tensor, each epoch in an order of its own.

    A batch is a stretch of an endless row of permutations of the data: a pure function of seed and step, so that a run
    goes on at any step, and every row is seen once before any is seen again.

    Parameters
    ----------
    x : Tensor or array (n, d_in)
        Of floating point; anything else than float32 is converted once, here. It is not copied otherwise: leave it as
        it is while training.
    batch_size : int
        Rows of a batch, at most n.
    seed : int
        Of the permutations.

    Attributes
    ----------
    d_in : int
    id : str
        The SHA-256 of shape and values, and the seed.

    Raises
    ------
    ConfigError
        If `x` is no matrix of finite floating-point numbers, or has fewer rows than a batch; or size or seed is no whole number.
    """

    def __init__(self, x: Any, batch_size: int, seed: int = 0) -> None:
        self.x = as_rows(x)
        n, self.d_in = self.x.shape
        self.batch_size, self.seed = whole("batch_size", batch_size), seed
        require(batch_size <= n, "batch_size", batch_size, f"at most the number of rows of the data, {n}")
        self._orders = Orders(n, seed, ROWS)

    @property  # not kept: who changes the data has other data
    def id(self) -> str:
        """Identity of the data: other values, another order of rows, or another seed give another."""
        return f"tensor:{digest(self.x)}:seed={self.seed}"

    def batch(self, step: int, shards: Sequence[int] = ALL_SHARDS) -> Tensor:
        """Return the float32 batch of a training step, or some of its shards, `(rows, d_in)`."""
        parts = [rows(self.batch_size, shard) for shard in shards]
        positions = step * self.batch_size + torch.cat([torch.arange(part.start, part.stop) for part in parts])
        return self.x[self._orders.at(positions).to(self.x.device)]


def as_rows(x: Any, name: str = "data", dtype: torch.dtype | None = torch.float32, least: int = 1) -> Tensor:
    """Return a matrix `(n, d_in)` of what the user gives, a tensor or what NumPy takes for an array, converted to a floating-point type.

    With None the type stays. Raises ConfigError, in which the data have a `name`, if they are no matrix, have fewer rows than `least`
    (1, or 0) or no column, are not of floating point, or not finite in that type; the message says which row.
    """
    tensor = _tensor(x, name)
    shape = tuple(tensor.shape)
    if tensor.ndim != 2:
        remedy = f"; reshape(-1, {shape[-1]}) makes rows of it" if len(shape) > 2 else ""
        raise ConfigError(f"{name}: must be a matrix (n, d_in), given shape {shape}{remedy}")
    if shape[0] < least or shape[1] == 0:
        raise ConfigError(f"{name}: must have a row and a column at least, given shape {shape}")
    if not tensor.is_floating_point():
        raise ConfigError(f"{name}: must be of floating point, given {tensor.dtype}; convert it with .float()")
    converted = tensor.detach().to(dtype or tensor.dtype).contiguous()
    for part, block in enumerate(converted.split(_BLOCK)):
        finite = torch.isfinite(block)
        if not finite.all():
            row, column = (~finite).nonzero()[0].tolist()
            row += part * _BLOCK
            where = f"row {row}, column {column} is {tensor[row, column].item()}"
            kind = str(converted.dtype).removeprefix("torch.")
            raise ConfigError(f"{name}: NaN or Inf in the data (as {kind}): {where}. Clean the data")
    return converted


_BLOCK = 2**16  # rows looked at in one go


def _tensor(x: Any, name: str) -> Tensor:
    if isinstance(x, Tensor):
        if x.layout != torch.strided:
            raise ConfigError(f"{name}: must be dense, given {x.layout}; convert it with .to_dense()")
        if x.is_meta:
            raise ConfigError(f"{name}: must have values, given a tensor on the meta device")
        return x
    if np.ma.is_masked(x):
        raise ConfigError(f"{name}: must have no masked entry, given a masked array; fill them or drop their rows")
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        given = f"{type(x).__name__} of dtype {array.dtype}"
        raise ConfigError(f"{name}: must hold floating-point numbers, given {given}")
    if array.dtype.kind == "f" and array.dtype not in (np.float16, np.float32, np.float64):
        array = array.astype(np.float64)  # long doubles and foreign byte orders
    with warnings.catch_warnings():  # of an array that cannot be written: nobody writes to it
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(np.ascontiguousarray(array))


def digest(x: Tensor) -> str:
    """Return `sha256:` and 16 digits: the identity of a tensor's shape, `(n, d_in)` or any other, of its type, and of its values."""
    found = hashlib.sha256(f"{tuple(x.shape)}{'' if x.dtype == torch.float32 else x.dtype}".encode())
    for block in torch.atleast_1d(x.detach().resolve_conj().resolve_neg()).split(_BLOCK):
        found.update(block.cpu().contiguous().view(torch.uint8).numpy())
    return f"sha256:{found.hexdigest()[:16]}"
