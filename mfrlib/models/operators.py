"""The kernels as registered operators, for `torch.compile` and `torch.export`, which cannot look into compiled code.

Only traces take them: an eager call goes to `mfrlib.models.sparse` directly and pays nothing. Where there are no kernels, the plain
form is traced.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from mfrlib.models import sparse
from mfrlib.models.kernels import compiled, tied


def available() -> bool:
    """Tell whether there are kernels."""
    return compiled.available()


# Asked while tracing, and not traced: what `torch.compiler.assume_constant_result` does, which would import the compiler.
available._dynamo_marked_constant = True  # type: ignore[attr-defined]


def tied_topk(
    x: Tensor, weight: Tensor, bias: Tensor, k: Sequence[int], *, unit_rows: bool, relu: bool
) -> sparse.Codes:
    """Do what `mfrlib.models.sparse.tied_topk` does, in a trace."""
    if _on_cpu(x, weight) and available():
        return sparse.Codes(*_tied_topk(x, weight, bias, list(k), unit_rows, relu))
    return sparse.reference(x, weight, bias, k, unit_rows=unit_rows, relu=relu)


def squared_error(
    x: Tensor, weight: Tensor, bias: Tensor, k: Sequence[int], *, unit_rows: bool, relu: bool,
    factor: float = 1.0,
) -> sparse.Error:  # fmt: skip
    """Do what `mfrlib.models.sparse.squared_error` does, in a trace."""
    if _on_cpu(x, weight) and available():
        error, values, indices, _, _ = _squared_error(x, weight, bias, list(k), unit_rows, relu, factor)
        return sparse.Error(error, values.detach(), indices)
    codes = sparse.reference(x, weight, bias, k, unit_rows=unit_rows, relu=relu)
    return sparse.Error(factor * (codes.sums - x).square().sum(dim=(1, 2)), codes.values.detach(), codes.indices)


def _on_cpu(x: Tensor, weight: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32


@torch.library.custom_op("mfrlib::tied_topk", mutates_args=())
def _tied_topk(
    x: Tensor, weight: Tensor, bias: Tensor, k: Sequence[int], unit_rows: bool, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    found = sparse.tied_topk(x, weight, bias, k, unit_rows=unit_rows, relu=relu)
    return found.sums, found.values, found.indices


@_tied_topk.register_fake
def _(
    x: Tensor, weight: Tensor, bias: Tensor, k: Sequence[int], unit_rows: bool, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    shape = len(weight), x.shape[0], max(k)  # len(x) would fix the size of a batch
    return x.new_empty(len(weight), *x.shape), x.new_empty(shape), x.new_empty(shape, dtype=torch.int64)


@torch.library.custom_op("mfrlib::tied_topk_backward", mutates_args=())
def _tied_topk_backward(
    d_sums: Tensor, d_values: Tensor, x: Tensor, weight: Tensor, values: Tensor, indices: Tensor,
    k: Sequence[int], unit_rows: bool, relu: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    norms = torch.linalg.vector_norm(weight, dim=-1).clamp_(min=1e-12)
    context = SimpleNamespace(
        saved_tensors=(x.contiguous(), weight.contiguous(), values, indices), k=tuple(k), relu=relu,
        scale=list(1 / norms) if unit_rows else [None] * len(weight), needs_input_grad=(True,),
    )  # fmt: skip
    d_x, d_weight, d_bias, *_ = tied.TiedTopK.backward(context, d_sums, d_values, None)
    assert d_x is not None
    assert d_weight is not None
    assert d_bias is not None
    return d_x, d_weight, d_bias


@_tied_topk_backward.register_fake
def _(
    d_sums: Tensor, d_values: Tensor, x: Tensor, weight: Tensor, values: Tensor, indices: Tensor,
    k: Sequence[int], unit_rows: bool, relu: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return x.new_empty(x.shape), weight.new_empty(weight.shape), weight.new_empty(weight.shape[:2])


def _keep_codes(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, _, ctx.k, ctx.unit_rows, ctx.relu = inputs
    _, values, indices = output
    ctx.save_for_backward(x, weight, values, indices)
    ctx.mark_non_differentiable(indices)


def _codes_backward(ctx: Any, d_sums: Tensor, d_values: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    x, weight, values, indices = ctx.saved_tensors
    rest = ctx.k, ctx.unit_rows, ctx.relu
    return *_tied_topk_backward(d_sums, d_values, x, weight, values, indices, *rest), None, None, None


_tied_topk.register_autograd(_codes_backward, setup_context=_keep_codes)


@torch.library.custom_op("mfrlib::squared_error", mutates_args=())
def _squared_error(
    x: Tensor, weight: Tensor, bias: Tensor, k: Sequence[int], unit_rows: bool, relu: bool, factor: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    kept: list[Tensor] = []
    context = SimpleNamespace(
        needs_input_grad=(False, True, True), save_for_backward=lambda *them: kept.extend(them),
        mark_non_differentiable=lambda *_: None,
    )  # fmt: skip
    error, values, indices = tied.SquaredError.forward(context, x, weight, bias, tuple(k), unit_rows, relu, factor)
    d_weight, d_bias = kept
    return error, values, indices, d_weight, d_bias


@_squared_error.register_fake
def _(
    x: Tensor, weight: Tensor, bias: Tensor, k: Sequence[int], unit_rows: bool, relu: bool, factor: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    shape, gradients = (len(weight), x.shape[0], max(k)), (weight.new_empty(weight.shape), bias.new_empty(bias.shape))
    return x.new_empty(len(weight)), x.new_empty(shape), x.new_empty(shape, dtype=torch.int64), *gradients


def _keep_gradients(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, values, indices, d_weight, d_bias = output
    ctx.save_for_backward(d_weight, d_bias)
    ctx.mark_non_differentiable(values, indices, d_weight, d_bias)


def _error_backward(ctx: Any, d_error: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    d_weight, d_bias = ctx.saved_tensors
    return None, d_weight * d_error[:, None, None], d_bias * d_error[:, None], None, None, None, None


_squared_error.register_autograd(_error_backward, setup_context=_keep_gradients)
