"""The functions of the compiled kernels (`mfrlib.models.kernels.compiled`) on tensors, which they read and write in place."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mfrlib.models.kernels.compiled import kernels


def _run(name: str, *arguments: Any) -> Any:
    """Call a function of the kernels, its tensors by their place in memory, on PyTorch's number of threads."""
    taken = [_at(one) if isinstance(one, Tensor) else one for one in arguments]
    return getattr(kernels(), name)(*taken, torch.get_num_threads())


_TYPES = (torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8)


def _at(tensor: Tensor) -> int:
    address = tensor.data_ptr() if tensor.device.type == "cpu" else 0
    if not tensor.is_contiguous() or tensor.dtype not in _TYPES or not (address or tensor.numel() == 0):
        given = f"{tensor.dtype} of strides {tensor.stride()} on {tensor.device}"
        raise ValueError(f"tensor: contiguous, in the memory of the CPU, of {_TYPES}, given {given}")
    return address


def select(hidden: Tensor, k: int, values: Tensor, indices: Tensor) -> None:
    """Write the k largest entries of each row of `hidden (row, n)` into `values` and `indices (row, k)`."""
    _run("select_rows", hidden, *hidden.shape, k, values, indices)


def sum_rows(table: Tensor, scale: Tensor | None, indices: Tensor, coefficients: Tensor, sums: Tensor) -> None:
    """Write sums `(row, d)` of scaled rows of `table (any, d)`; `scale (any,)`, `indices`, `coefficients (row, k)`."""
    _run("sum_rows", table, scale, indices, coefficients, *indices.shape, table.shape[1], sums)


def draw_shards(seeds: list[int], sizes: list[int], groups: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw, for each n in `sizes` from its own seed, as `torch.randint(groups, (n,))` and twice `torch.rand(n, width)` would.

    With `groups` 0 the integers are not drawn, and not written.
    """
    own, edges = torch.tensor(seeds), torch.tensor([0, *sizes]).cumsum(0)
    n = int(edges[-1])
    found = torch.empty(n, dtype=torch.int64), torch.empty(n, width), torch.empty(n, width)
    _run("draw_shards", own, edges, len(sizes), groups, width, *found)
    return found


def drawn_sums(
    table: Tensor, odds: Tensor, never: float, k: int, group: Tensor, order: Tensor, times: Tensor, coefficients: Tensor
) -> Tensor:
    """Return sums `(row, d)` of the k rows of a group of `table (group, n, d)` with the largest `times (draw, n)` / `odds (group, n)`.

    `group (draw,)` says of which group a draw is; `order (part, row)` which draws a row adds up.
    """
    (_, n, d), rows = table.shape, order.shape[-1]
    sums, sizes = table.new_empty(rows, d), (rows, order.numel() // rows, n, k, d)
    _run("drawn_sums", table, odds, group, order, times, coefficients, *sizes, never, sums)
    return sums


class Packed(NamedTuple):
    """A dictionary rounded for the search, to bytes or to bfloat16; bounds `(feature, 4)`: lengths, roundings, bytes' steps and shifts."""

    panels: Tensor
    bounds: Tensor
    bytes: bool


def pack(rows: Tensor, bytes: bool) -> Packed:
    """Round a dictionary `(feature, d)` for the search: to bytes, unless rows are so long that sums might not fit, or to bfloat16."""
    features, d = rows.shape
    bytes &= d <= 2**16
    panels = rows.new_empty(-(-features // 32) * -(-d // (4 if bytes else 2)) * 32, dtype=torch.int32)
    found = Packed(panels, rows.new_empty(features, 4), bytes)
    _run("pack_rows", rows, features, d, bytes, found.panels, found.bounds)
    return found


class Gradient(NamedTuple):
    """What the way back needs of each code, `(row, k)` both: its slope along the gradient, and its pre-activation's."""

    along: Tensor
    d_hidden: Tensor


def gradient_rows(
    d_sums: Tensor, weight: Tensor, scale: Tensor | None, indices: Tensor, values: Tensor, relu: bool, d_hidden: Tensor
) -> Gradient:
    """Go back from sums `(row, d)` to pre-activations; `d_hidden (row, k)` holds what reaches the values from elsewhere."""
    found = Gradient(torch.empty_like(values), d_hidden)
    _run("gradient_rows", d_sums, weight, scale, indices, values, *indices.shape, weight.shape[1], relu, *found)
    return found


def error_rows(
    x: Tensor, hidden: Tensor, weight: Tensor, scale: Tensor | None, relu: bool, factor: float, values: Tensor, indices: Tensor
) -> tuple[Tensor, Tensor, Gradient]:  # fmt: skip
    """Select, decode and compare: write codes; return error `(row,)`, its gradient by the sums `(row, d)`, and further back."""
    (rows, d), k = x.shape, values.shape[1]
    d_sums, error = torch.empty_like(x), x.new_empty(rows)
    found = Gradient(torch.empty_like(values), torch.empty_like(values))
    sizes = rows, hidden.shape[1], k, d
    _run("error_rows", x, hidden, weight, scale, *sizes, relu, factor, values, indices, d_sums, error, *found)
    return error, d_sums, found


def search(
    x: Tensor, weight: Tensor, bias: Tensor, packed: Packed, values: Tensor, indices: Tensor,
    scale: Tensor | None = None, relu: bool = False, factor: float = 1.0, written: Sequence[Tensor | None] = (None,) * 4,
) -> Tensor:  # fmt: skip
    """Write the k largest pre-activations `(row, k)` of each row of `x (row, d)`; return the rows left without a certificate."""
    (rows, d), (features, k) = x.shape, (len(weight), values.shape[1])
    limit = k + features // 8  # with more candidates than that, a row is left to the search in float32
    failed, sizes = x.new_empty(rows, dtype=torch.uint8), (rows, features, k, d)
    read = x, weight, bias, *packed, scale
    _run("search_rows", *read, *sizes, limit, relu, factor, values, indices, failed, *written)
    return failed.nonzero()[:, 0]


def search_errors(
    x: Tensor, weight: Tensor, bias: Tensor, packed: Packed, scale: Tensor | None, relu: bool, factor: float,
    values: Tensor, indices: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Gradient]:  # fmt: skip
    """Search, decode and compare, without pre-activations of all features.

    Returns the numbers of rows left without a certificate, and of the others what `error_rows` returns.
    """
    found = Gradient(torch.empty_like(values), torch.empty_like(values))
    d_sums, error = torch.empty_like(x), x.new_zeros(len(x))
    left = search(x, weight, bias, packed, values, indices, scale, relu, factor, (d_sums, error, *found))
    return left, error, d_sums, found


def move(weight: Tensor, norm: Tensor, unit: Tensor, way: Tensor) -> float:
    """Replace `unit (row, d)` by the rows of `weight` over `norm (row,)`, and add to `way (row,)` how far each moved.

    Returns the farthest; ways and it are bounds from above, float64.
    """
    return _run("move_rows", weight, norm, *weight.shape, unit, way)


def memories(rows: int) -> Tensor:
    """Return what `match` keeps of each of so many rows, before their first search."""
    return torch.zeros(rows, kernels().memory_size(), dtype=torch.uint8, device="cpu")


def match(
    a: Tensor, b: Tensor, packed: Packed, ways: tuple[Tensor, Tensor], farthest: float, kept: Tensor, rows: Tensor
) -> int:
    """Write for each unit row of `a (n, d)` the one of `b (f, d)` with the largest cosine; return how many were searched.

    `ways` are those of `a` and `b` from `move`, `farthest` the sum of what it returned for `b`, `kept` as of `memories`.
    """
    return _run("match_rows", a, b, *packed, len(a), len(b), a.shape[1], *ways, farthest, kept, rows)


def match_gradient(unit: Tensor, norm: Tensor, pairs: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient of the matched cosines' sum by the rows before scaling `(s, f, d)`, and its part `(s, f)` of twice the sum.

    `pairs (pair, 2)` of SAEs; `rows (pair, f)`: with which row of the second each row of the first is matched.
    """
    gradient, along = torch.empty_like(unit), torch.empty_like(norm)
    _run("match_gradient", unit, norm, pairs, rows, len(pairs), *unit.shape, gradient, along)
    return gradient, along


def accumulate(
    x: Tensor, d_sums: Tensor, weight: Tensor, scale: Tensor | None, indices: Tensor, values: Tensor, gradient: Gradient,
    d_weight: Tensor, d_bias: Tensor, fresh: bool,
) -> None:  # fmt: skip
    """Add to the gradient of one SAE's weight `(feature, d)` and bias `(feature,)`; `fresh` ones hold nothing yet."""
    sizes = *indices.shape, *weight.shape
    _run("accumulate", x, d_sums, weight, scale, indices, values, *gradient, *sizes, fresh, d_weight, d_bias)
