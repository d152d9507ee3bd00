r"""The arithmetic of a stack of tied TopK SAEs, sparse both ways: only the k active features of a sample are touched.

.. math:: h = W x + b, \qquad v = \sigma_k(h), \qquad y = \textstyle\sum_j v_j\, W_{i_j} / \lVert W_{i_j} \rVert

`reference` says it in plain PyTorch, for any device and floating dtype. On a CPU in float32 the compiled kernels of
`mfrlib.native` do the same: a select instead of a sort, and a gradient summed feature by feature, so that the one
dense product left is the encoder's.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mfrlib import native

Search = Literal["fp32", "bf16"]
PRE_ACTIVATIONS = 2**19  # pre-activations held at once: they stay in the processor's cache


class Codes(NamedTuple):
    """Sums of dictionary rows `(sae, batch, d_in)`, and the codes `(sae, batch, k)` they were made from."""

    sums: Tensor
    values: Tensor
    indices: Tensor


def tied_topk(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    k: Sequence[int],
    *,
    unit_rows: bool,
    relu: bool,
    search: Search = "fp32",
) -> Codes:
    """Encode, select and decode a batch with every SAE of a stack, by the fastest way there is.

    Parameters
    ----------
    x : Tensor (batch, d_in)
    weight : Tensor (sae, feature, d_in)
        Encodes as it is.
    bias : Tensor (sae, feature)
    k : sequence of int
        Entries kept, one number per SAE. Where it is less than the largest, values beyond it are 0.
    unit_rows : bool
        Decode with rows of norm 1, or with those of `weight`.
    relu : bool
        Cut negative values off, after the selection.
    search : {"fp32", "bf16"}
        Precision of the product that candidates are chosen from. In bf16, 8 more than k are taken and scored again in
        fp32: for processors with fast bf16 products.
    """
    on_cpu = x.device.type == "cpu" and x.dtype == weight.dtype == bias.dtype == torch.float32
    if on_cpu and search == "fp32" and len(x) and native.available():
        return Codes(*_Native.apply(x, weight, bias, tuple(k), unit_rows, relu))
    return reference(x, weight, bias, k, unit_rows=unit_rows, relu=relu, search=search)


def reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    k: Sequence[int],
    *,
    unit_rows: bool,
    relu: bool,
    search: Search = "fp32",
) -> Codes:
    """Do the same in the plain form, which autograd differentiates."""
    unequal = len(set(k)) > 1
    if search == "fp32":
        values, indices = _hidden(x, weight, bias).topk(max(k), sorted=unequal)
    else:
        with torch.no_grad():
            rough = _hidden(*(one.bfloat16() for one in (x, weight, bias)))
            candidates = rough.topk(min(max(k) + 8, weight.shape[1]), sorted=False).indices
        exact = torch.stack(
            [torch.einsum("nd,nkd->nk", x, w[i]) + b[i] for w, b, i in zip(weight, bias, candidates, strict=True)]
        )
        values, among = exact.topk(max(k), sorted=unequal)
        indices = candidates.gather(-1, among)
    if relu:
        values = values.relu()
    if unequal:
        reach = torch.tensor(k, device=x.device)[:, None, None]
        values = values * (torch.arange(max(k), device=x.device) < reach)
    return Codes(decode(values, indices, F.normalize(weight, dim=-1) if unit_rows else weight), values, indices)


def _hidden(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Pre-activations `(sae, batch, feature)`, as one product for the whole stack."""
    n_saes, n_features, _ = weight.shape
    return F.linear(x, weight.flatten(0, 1), bias.flatten()).view(-1, n_saes, n_features).transpose(0, 1)


def decode(values: Tensor, indices: Tensor, dictionary: Tensor) -> Tensor:
    r"""Return :math:`\sum_j v_j D_{i_j}` for every sample, `(sae, batch, d_in)`.

    Parameters
    ----------
    values, indices : Tensor (sae, batch, k)
        Sparse codes: an activation, and the feature that it belongs to.
    dictionary : Tensor (sae, feature, d_in)
    """
    n_saes, n_features, d_in = dictionary.shape
    rows = indices + n_features * torch.arange(n_saes, device=indices.device)[:, None, None]
    sums = F.embedding_bag(
        rows.flatten(0, 1), dictionary.flatten(0, 1), per_sample_weights=values.flatten(0, 1), mode="sum"
    )
    return sums.view(n_saes, -1, d_in)


class _Native(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, k: tuple[int, ...], unit_rows: bool, relu: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        x, weight = x.contiguous(), weight.contiguous()
        (n, d_in), (n_saes, n_features, _) = x.shape, weight.shape
        scale = 1 / torch.linalg.vector_norm(weight, dim=-1).clamp_(min=1e-12) if unit_rows else None
        sums = x.new_empty(n_saes, n, d_in)
        equal = len(set(k)) == 1
        if equal:
            values, indices = x.new_empty(n_saes, n, k[0]), torch.empty(n_saes, n, k[0], dtype=torch.int64)
            codes = list(zip(values, indices, strict=True))
        else:
            codes = [(x.new_empty(n, one), torch.empty(n, one, dtype=torch.int64)) for one in k]
        tile = min(n, max(512, PRE_ACTIVATIONS // n_features))
        buffer = x.new_empty(tile, n_features)
        for start in range(0, n, tile):
            part = slice(start, min(start + tile, n))
            hidden = buffer[: part.stop - start]
            for sae, (value, index) in enumerate(codes):
                torch.addmm(bias[sae], x[part], weight[sae].T, out=hidden)
                native.select(hidden, k[sae], value[part], index[part])
                if relu:
                    value[part].relu_()
                native.sum_rows(weight[sae], _of(scale, sae), index[part], value[part], sums[sae, part])
        ctx.relu, ctx.codes, ctx.scale = relu, codes, scale
        ctx.save_for_backward(x, weight)
        if not equal:
            values, indices = (_stacked([one[what] for one in codes]) for what in (0, 1))
        ctx.mark_non_differentiable(indices)
        return sums, values, indices

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_sums: Tensor | None, d_values: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        d_sums = x.new_zeros(len(weight), *x.shape) if d_sums is None else d_sums.contiguous()
        d_weight, d_bias = torch.empty_like(weight), weight.new_empty(weight.shape[:2])
        d_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        for sae, (values, indices) in enumerate(ctx.codes):
            d_hidden = (
                torch.zeros_like(values)
                if d_values is None
                else d_values[sae, :, : values.shape[1]].clone(memory_format=torch.contiguous_format)
            )
            native.backward(
                x, d_sums[sae], weight[sae], _of(ctx.scale, sae), indices, values, d_hidden, ctx.relu, d_weight[sae], d_bias[sae]
            )  # fmt: skip
            if d_x is not None:
                part = torch.empty_like(x)
                native.sum_rows(weight[sae], None, indices, d_hidden, part)
                d_x += part
        return d_x, d_weight, d_bias, None, None, None


def _of(scale: Tensor | None, sae: int) -> Tensor | None:
    return None if scale is None else scale[sae]


def _stacked(parts: list[Tensor]) -> Tensor:
    """Stack `(batch, k)` of unlike k, padded with 0."""
    widest = max(part.shape[1] for part in parts)
    return torch.stack([F.pad(part, (0, widest - part.shape[1])) for part in parts])
