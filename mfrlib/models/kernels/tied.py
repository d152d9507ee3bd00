"""Tied TopK SAEs on the compiled kernels: the passes over a batch, and their gradients for autograd.

`mfrlib.models.sparse` says what is computed, and takes these where they serve.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mfrlib.models.kernels import compiled, native
from mfrlib.models.kernels.modes import first_order

PRE_ACTIVATIONS = 2**19  # held at once: they stay in the processor's cache
GRADIENTS = 2**20  # of reconstructions, held at once where there are no pre-activations
SPARSE = 8  # features for each of the k largest, from which on the certified search is the faster one
CERTIFIED = (True, False)
"""Searches before the one in float32, each for the rows that the last has left: in bytes, and not in bytes but in bfloat16."""


class Pass:
    """A pass of the kernels over a batch: tiles of rows, and in each the SAEs one after the other."""

    def __init__(self, x: Tensor, weight: Tensor, bias: Tensor, k: tuple[int, ...], unit_rows: bool) -> None:
        n_saes, n_features, d_in = weight.shape
        fits = x.shape[1] == d_in and bias.shape == (n_saes, n_features) and len(k) == n_saes
        if not fits or not 1 <= min(k) <= max(k) <= n_features:  # the kernels would read and write beyond the tensors
            wanted = "x (batch, d_in), weight (sae, feature, d_in), bias (sae, feature), and a k from 1 to feature for each SAE"
            given = f"{tuple(x.shape)}, {tuple(weight.shape)}, {tuple(bias.shape)}, k = {k}"
            raise ValueError(f"{wanted}, must fit each other, given {given}")
        self.x, self.weight, self.bias, self.k = x.contiguous(), weight.contiguous(), bias.contiguous(), k
        n = len(x)
        self.buffer = x.new_empty(0, n_features)
        norms = torch.linalg.vector_norm(weight, dim=-1).clamp_(min=1e-12)
        self.scale = list(1 / norms) if unit_rows else [None] * n_saes
        certified = compiled.certifies() and SPARSE * max(k) <= n_features
        self.ways = CERTIFIED if certified else ()
        self._packed: dict[tuple[int, bool], native.Packed] = {}
        if len(set(k)) == 1:
            self.values = x.new_empty(n_saes, n, k[0])
            self.indices = x.new_empty(n_saes, n, k[0], dtype=torch.int64)
            self.codes = list(zip(self.values, self.indices, strict=True))
        else:
            self.codes = [(x.new_empty(n, one), x.new_empty(n, one, dtype=torch.int64)) for one in k]

    def tiles(self) -> Iterator[tuple[int, slice, Tensor, Tensor]]:
        """Yield SAE, rows, and the values and indices to be written."""
        n, (_, f, d) = len(self.x), self.weight.shape
        tile = min(n, max(512, GRADIENTS // d if self.ways else PRE_ACTIVATIONS // f))
        for start in range(0, n, tile):
            rows = slice(start, min(start + tile, n))
            for sae, (values, indices) in enumerate(self.codes):
                yield sae, rows, values[rows], indices[rows]

    def hidden(self, sae: int, x: Tensor) -> Tensor:
        """Return the pre-activations `(row, feature)` of some rows in float32."""
        n, n_features = len(x), self.weight.shape[1]
        if len(self.buffer) < n:
            self.buffer = x.new_empty(n, n_features)
        return torch.addmm(self.bias[sae], x, self.weight[sae].T, out=self.buffer[:n])

    def packed(self, sae: int, bytes: bool) -> native.Packed:
        """Return the dictionary as a search reads it."""
        if (sae, bytes) not in self._packed:
            self._packed[sae, bytes] = native.pack(self.weight[sae], bytes)
        return self._packed[sae, bytes]

    def select(self, sae: int, x: Tensor, values: Tensor, indices: Tensor, done: int = 0) -> None:
        """Write the k largest pre-activations `(row, k)` of some rows, by the ways from `done` on."""
        if done == len(self.ways):
            native.select(self.hidden(sae, x), self.k[sae], values, indices)
            return
        packed = self.packed(sae, self.ways[done])
        left = native.search(x, self.weight[sae], self.bias[sae], packed, values, indices)
        if len(left):
            found = values[left], indices[left]
            self.select(sae, x[left], *found, done + 1)
            values[left], indices[left] = found

    def errors(
        self, sae: int, x: Tensor, relu: bool, factor: float, values: Tensor, indices: Tensor, done: int = 0
    ) -> tuple[Tensor, Tensor, native.Gradient]:
        """Write codes; return errors `(row,)`, their gradient by the sums `(row, d_in)`, and that of the codes."""
        weight, scale = self.weight[sae], self.scale[sae]
        if done == len(self.ways):
            return native.error_rows(x, self.hidden(sae, x), weight, scale, relu, factor, values, indices)
        left, error, d_sums, gradient = native.search_errors(
            x, weight, self.bias[sae], self.packed(sae, self.ways[done]), scale, relu, factor, values, indices
        )
        if len(left):
            codes = values[left], indices[left]
            *found, back = self.errors(sae, x[left], relu, factor, *codes, done + 1)
            for whole, part in zip((values, indices, error, d_sums, *gradient), (*codes, *found, *back), strict=True):
                whole[left] = part
        return error, d_sums, gradient

    def padded(self) -> tuple[Tensor, Tensor]:
        """Return values and indices `(sae, batch, k)`, padded with 0 where an SAE has a smaller k."""
        if len(set(self.k)) > 1:
            self.values, self.indices = (
                torch.stack([F.pad(one[what], (0, max(self.k) - one[what].shape[1])) for one in self.codes])
                for what in (0, 1)
            )
        return self.values, self.indices


class TiedTopK(torch.autograd.Function):
    """`mfrlib.models.sparse.tied_topk`, with gradients for all of its tensors."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, k: tuple[int, ...], unit_rows: bool, relu: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return sums, values and indices."""
        ctx.set_materialize_grads(False)
        stack = Pass(x, weight, bias, k, unit_rows)
        sums = x.new_empty(len(weight), *x.shape)
        for sae, rows, values, indices in stack.tiles():
            stack.select(sae, stack.x[rows], values, indices)
            if relu:
                values.relu_()
            native.sum_rows(stack.weight[sae], stack.scale[sae], indices, values, sums[sae, rows])
        ctx.relu, ctx.k, ctx.scale = relu, k, stack.scale
        values, indices = stack.padded()
        ctx.save_for_backward(x, weight, values, indices, bias)  # kept elsewhere, outputs would never be freed
        ctx.mark_non_differentiable(indices)
        return sums, values, indices

    @staticmethod
    @first_order
    def backward(ctx: Any, d_sums: Tensor | None, d_values: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, weight and bias."""
        x, weight, *stacked = (one.contiguous() for one in ctx.saved_tensors[:4])
        d_sums = x.new_zeros(len(weight), *x.shape) if d_sums is None else d_sums.contiguous()
        d_weight, d_bias = torch.empty_like(weight), weight.new_empty(weight.shape[:2])
        d_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        for sae, k in enumerate(ctx.k):
            values, indices = (one[sae, :, :k].contiguous() for one in stacked)
            d_hidden = torch.zeros_like(values)
            if d_values is not None:
                d_hidden += d_values[sae, :, : values.shape[1]]
            row, scale = weight[sae], ctx.scale[sae]
            gradient = native.gradient_rows(d_sums[sae], row, scale, indices, values, ctx.relu, d_hidden)
            native.accumulate(x, d_sums[sae], row, scale, indices, values, gradient, d_weight[sae], d_bias[sae], True)
            if d_x is not None:
                part = torch.empty_like(x)
                native.sum_rows(row, None, indices, d_hidden, part)
                d_x += part
        return d_x, d_weight, d_bias, None, None, None


class SquaredError(torch.autograd.Function):
    """`mfrlib.models.sparse.squared_error`; while a tile is in the cache: no reconstruction is ever held whole."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, k: tuple[int, ...], unit_rows: bool, relu: bool,
        factor: float,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Return errors, values and indices; the gradient is taken here, while a tile is in the cache."""
        stack = Pass(x, weight, bias, k, unit_rows)
        error, learns = x.new_zeros(len(weight)), any(ctx.needs_input_grad)
        gradients = (torch.empty_like(stack.weight), torch.empty_like(bias)) if learns else ()
        for sae, rows, values, indices in stack.tiles():
            row, scale, part = stack.weight[sae], stack.scale[sae], stack.x[rows]
            errors, d_sums, gradient = stack.errors(sae, part, relu, factor, values, indices)
            error[sae] += errors.sum()
            if learns:
                d_weight, d_bias = (one[sae] for one in gradients)
                fresh = rows.start == 0
                native.accumulate(part, d_sums, row, scale, indices, values, gradient, d_weight, d_bias, fresh)
        ctx.save_for_backward(*gradients, weight, bias)
        values, indices = stack.padded()
        ctx.mark_non_differentiable(values, indices)
        return error, values, indices

    @staticmethod
    @first_order
    def backward(ctx: Any, d_error: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        """Return the gradients of weight and bias."""
        d_weight, d_bias, *_ = ctx.saved_tensors
        if not bool((d_error == 1).all()):
            d_weight, d_bias = d_weight * d_error[:, None, None], d_bias * d_error[:, None]
        return None, d_weight, d_bias, None, None, None, None
