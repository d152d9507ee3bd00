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
    on_cpu = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    if on_cpu and available():
        return sparse.Codes(*_tied_topk(x, weight, bias, list(k), unit_rows, relu))
    return sparse.reference(x, weight, bias, k, unit_rows=unit_rows, relu=relu)


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
        saved_tensors=(x, weight, values, indices), k=tuple(k), relu=relu,
        scale=list(1 / norms) if unit_rows else [None] * len(weight), needs_input_grad=(True,),
    )  # fmt: skip
    gradients: Any = torch.no_grad()(tied.TiedTopK.backward)(context, d_sums, d_values, None)
    return gradients[:3]


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
