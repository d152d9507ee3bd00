"""The functions of the compiled kernels (`mfrlib.models.kernels.compiled`) on tensors, which they read and write in place."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from mfrlib.models.kernels.compiled import kernels


def select(hidden: Tensor, k: int, values: Tensor, indices: Tensor) -> None:
    """Write the k largest entries of each row of `hidden (row, n)` into `values` and `indices (row, k)`."""
    rows, n = hidden.shape
    kernels().select_rows(_at(hidden), rows, n, k, _at(values), _at(indices), torch.get_num_threads())


def sum_rows(table: Tensor, scale: Tensor | None, indices: Tensor, coefficients: Tensor, sums: Tensor) -> None:
    """Write sums `(row, d)` of scaled rows of `table (any, d)`; `scale (any,)`, `indices`, `coefficients (row, k)`."""
    rows, k = indices.shape
    arguments = _at(table), _at(scale), _at(indices), _at(coefficients), rows, k, table.shape[1], _at(sums)
    kernels().sum_rows(*arguments, torch.get_num_threads())


def draw_shards(seeds: list[int], sizes: list[int], groups: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw, for each n in `sizes` from its own seed, as `torch.randint(groups, (n,))` and twice `torch.rand(n, width)` would.

    With `groups` 0 the integers are not drawn, and not written.
    """
    own, edges = torch.tensor(seeds), torch.tensor([0, *sizes]).cumsum(0)
    n = int(edges[-1])
    found = torch.empty(n, dtype=torch.int64), torch.empty(n, width), torch.empty(n, width)
    kernels().draw_shards(_at(own), _at(edges), len(sizes), groups, width, *map(_at, found), torch.get_num_threads())
    return found


def drawn_sums(
    table: Tensor, odds: Tensor, never: float, k: int, group: Tensor, order: Tensor, times: Tensor, coefficients: Tensor
) -> Tensor:
    """Return sums `(row, d)` of the k rows of a group of `table (group, n, d)` with the largest `times (draw, n)` / `odds (group, n)`.

    `group (draw,)` says of which group a draw is; `order (part, row)` which draws a row adds up.
    """
    (_, n, d), rows = table.shape, order.shape[-1]
    sums = table.new_empty(rows, d)
    arrays = [_at(one) for one in (table, odds, group, order, times, coefficients)]
    sizes = rows, order.numel() // rows, n, k, d
    kernels().drawn_sums(*arrays, *sizes, never, _at(sums), torch.get_num_threads())
    return sums


class Packed(NamedTuple):
    """A dictionary rounded to bfloat16, as the search reads it, and bounds `(feature, 2)` of each row: length, rounding."""

    panels: Tensor
    bounds: Tensor


def pack(rows: Tensor) -> Packed:
    """Round a dictionary `(feature, d)` for the search."""
    features, d = rows.shape
    panels = torch.empty(-(-features // 32) * -(-d // 2) * 32, dtype=torch.int32)
    found = Packed(panels, rows.new_empty(features, 2))
    kernels().pack_rows(_at(rows), features, d, *map(_at, found), torch.get_num_threads())
    return found


class Gradient(NamedTuple):
    """What the way back needs of each code, `(row, k)` both: its slope along the gradient, and its pre-activation's."""

    along: Tensor
    d_hidden: Tensor


def gradient_rows(
    d_sums: Tensor, weight: Tensor, scale: Tensor | None, indices: Tensor, values: Tensor, relu: bool, d_hidden: Tensor
) -> Gradient:
    """Go back from sums `(row, d)` to pre-activations; `d_hidden (row, k)` holds what reaches the values from elsewhere."""
    rows, k = indices.shape
    found = Gradient(torch.empty_like(values), d_hidden)
    arrays = [_at(one) for one in (d_sums, weight, scale, indices, values)]
    kernels().gradient_rows(*arrays, rows, k, weight.shape[1], relu, *map(_at, found), torch.get_num_threads())
    return found


def error_rows(
    x: Tensor, hidden: Tensor, weight: Tensor, scale: Tensor | None, relu: bool, factor: float, values: Tensor, indices: Tensor
) -> tuple[Tensor, Tensor, Gradient]:  # fmt: skip
    """Select, decode and compare: write codes; return error `(row,)`, its gradient by the sums `(row, d)`, and further back."""
    (rows, d), k = x.shape, values.shape[1]
    d_sums, error = torch.empty_like(x), x.new_empty(rows)
    found = Gradient(torch.empty_like(values), torch.empty_like(values))
    arrays = [_at(one) for one in (x, hidden, weight, scale)]
    written = [_at(one) for one in (values, indices, d_sums, error, *found)]
    kernels().error_rows(*arrays, rows, hidden.shape[1], k, d, relu, factor, *written, torch.get_num_threads())
    return error, d_sums, found


class Searched(NamedTuple):
    """What a search leaves: the numbers of rows without a certificate, and of the others what `error_rows` returns."""

    left: Tensor
    error: Tensor
    d_sums: Tensor
    gradient: Gradient


def search(x: Tensor, weight: Tensor, bias: Tensor, packed: Packed, values: Tensor, indices: Tensor) -> Tensor:
    """Write the k largest pre-activations `(row, k)` of each row of `x (row, d)`; return the rows left without a certificate."""
    return _search(x, weight, bias, packed, None, False, 1.0, values, indices, [None] * 4)


def search_errors(
    x: Tensor, weight: Tensor, bias: Tensor, packed: Packed, scale: Tensor | None, relu: bool, factor: float,
    values: Tensor, indices: Tensor,
) -> Searched:  # fmt: skip
    """Search, decode and compare: `error_rows`, without pre-activations of all features."""
    found = Gradient(torch.empty_like(values), torch.empty_like(values))
    d_sums, error = torch.empty_like(x), x.new_zeros(len(x))
    written = [d_sums, error, *found]
    left = _search(x, weight, bias, packed, scale, relu, factor, values, indices, written)
    return Searched(left, error, d_sums, found)


def _search(
    x: Tensor, weight: Tensor, bias: Tensor, packed: Packed, scale: Tensor | None, relu: bool, factor: float,
    values: Tensor, indices: Tensor, written: list[Any],
) -> Tensor:  # fmt: skip
    (rows, d), (features, k) = x.shape, (len(weight), values.shape[1])
    limit = k + features // 8  # with more candidates than that, a row is left to the search in float32
    failed = torch.empty(rows, dtype=torch.uint8)
    arrays = [_at(one) for one in (x, weight, bias, *packed, scale)]
    codes = [_at(one) for one in (values, indices, failed, *written)]
    kernels().search_rows(*arrays, rows, features, k, d, limit, relu, factor, *codes, torch.get_num_threads())
    return failed.nonzero()[:, 0]


def move(weight: Tensor, norm: Tensor, unit: Tensor, way: Tensor) -> float:
    """Replace `unit (row, d)` by the rows of `weight` over `norm (row,)`, and add to `way (row,)` how far each moved.

    Returns the farthest; ways and it are bounds from above, float64.
    """
    rows, d = weight.shape
    return kernels().move_rows(_at(weight), _at(norm), rows, d, _at(unit), _at(way), torch.get_num_threads())


def memories(rows: int) -> Tensor:
    """Return what `match` keeps of each of so many rows, before their first search."""
    return torch.zeros(rows, kernels().memory_size(), dtype=torch.uint8)


def match(
    a: Tensor, b: Tensor, packed: Packed, ways: tuple[Tensor, Tensor], farthest: float, kept: Tensor, rows: Tensor
) -> int:
    """Write for each unit row of `a (n, d)` the one of `b (f, d)` with the largest cosine; return how many were searched.

    `ways` are those of `a` and `b` from `move`, `farthest` the sum of what it returned for `b`, `kept` as of `memories`.
    """
    arrays = [_at(one) for one in (a, b, *packed)]
    state = [*(_at(one) for one in ways), farthest, _at(kept), _at(rows)]
    return kernels().match_rows(*arrays, len(a), len(b), a.shape[1], *state, torch.get_num_threads())


def match_gradient(unit: Tensor, norm: Tensor, pairs: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient of the matched cosines' sum by the rows before scaling `(s, f, d)`, and its part `(s, f)` of twice the sum.

    `pairs (pair, 2)` of SAEs; `rows (pair, f)`: with which row of the second each row of the first is matched.
    """
    gradient, along = torch.empty_like(unit), torch.empty_like(norm)
    arrays = [_at(one) for one in (unit, norm, pairs, rows)]
    kernels().match_gradient(*arrays, len(pairs), *unit.shape, _at(gradient), _at(along), torch.get_num_threads())
    return gradient, along


def accumulate(
    x: Tensor, d_sums: Tensor, weight: Tensor, scale: Tensor | None, indices: Tensor, values: Tensor, gradient: Gradient,
    d_weight: Tensor, d_bias: Tensor, fresh: bool,
) -> None:  # fmt: skip
    """Add to the gradient of one SAE's weight `(feature, d)` and bias `(feature,)`; `fresh` ones hold nothing yet."""
    (rows, k), (features, d) = indices.shape, weight.shape
    arrays = [_at(one) for one in (x, d_sums, weight, scale, indices, values, *gradient)]
    written = _at(d_weight), _at(d_bias), torch.get_num_threads()
    kernels().accumulate(*arrays, rows, k, features, d, fresh, *written)


_TYPES = (torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8)


def _at(tensor: Tensor | None) -> int | None:
    if tensor is None:
        return None
    if not tensor.is_contiguous() or tensor.dtype not in _TYPES:
        raise ValueError(f"tensor: contiguous, of {_TYPES}, given {tensor.dtype} of strides {tensor.stride()}")
    return tensor.data_ptr()
