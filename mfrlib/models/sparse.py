r"""The arithmetic of a stack of tied TopK SAEs, sparse both ways: only the k active features of a sample are touched.

.. math:: h = W x + b, \qquad v = \sigma_k(h), \qquad y = \textstyle\sum_j v_j\, W_{i_j} / \lVert W_{i_j} \rVert

`reference` says it in plain PyTorch, for any device and floating dtype. On a CPU in float32 the compiled kernels of
`mfrlib.models.kernels.tied` do the same: a select instead of a sort, and a gradient summed feature by feature, so that the one
dense product left is the encoder's. Where the processor has products of bytes and of bfloat16, that product is taken in
them and only says which few features can be among the k largest, with a bound on its rounding; these are scored in
float32. The same features are found as by the product in float32, entries closer than its rounding being equals.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mfrlib.models.kernels import compiled, tied
from mfrlib.models.kernels.modes import exact


class Codes(NamedTuple):
    """Sums of dictionary rows `(sae, batch, d_in)`, and the codes `(sae, batch, k)` they were made from."""

    sums: Tensor
    values: Tensor
    indices: Tensor


class Error(NamedTuple):
    """Squared errors `(sae,)`, and the codes `(sae, batch, k)`."""

    error: Tensor
    values: Tensor
    indices: Tensor


def tied_topk(x: Tensor, weight: Tensor, bias: Tensor, k: Sequence[int], *, unit_rows: bool, relu: bool) -> Codes:
    """Encode, select and decode a batch `x (batch, d_in)` with every SAE of a stack, by the fastest way there is.

    `weight (sae, feature, d_in)` encodes as it is, with `bias (sae, feature)`, and decodes so too, or with rows of norm 1
    (`unit_rows`). `k` has the number of entries kept of each SAE; where one is less than the largest, values beyond it are 0.
    `relu` cuts negative values off, after the selection.
    """
    if compiled.serve(x, weight, bias) and len(x) > 0:
        return Codes(*tied.TiedTopK.apply(x, weight, bias, tuple(k), unit_rows, relu))
    return reference(x, weight, bias, k, unit_rows=unit_rows, relu=relu)


@exact
def squared_error(
    x: Tensor, weight: Tensor, bias: Tensor, k: Sequence[int], *, unit_rows: bool, relu: bool, factor: float = 1.0
) -> Error:
    r"""Return :math:`\text{factor} \cdot \sum \lVert y - x \rVert^2` of each SAE, `(sae,)`, and the codes.

    Parameters as of `tied_topk`. What training needs and no more: gradients reach weight and bias, not `x`, and not
    through the codes.
    """
    if compiled.serve(x, weight, bias) and len(x) > 0:
        return Error(*tied.SquaredError.apply(x, weight, bias, tuple(k), unit_rows, relu, factor))
    x = x.detach()
    codes = reference(x, weight, bias, k, unit_rows=unit_rows, relu=relu)
    return Error(factor * (codes.sums - x).square().sum(dim=(1, 2)), codes.values.detach(), codes.indices)


def reference(x: Tensor, weight: Tensor, bias: Tensor, k: Sequence[int], *, unit_rows: bool, relu: bool) -> Codes:
    """Do the same in the plain form, which autograd differentiates."""
    unequal = len(set(k)) > 1
    hidden = F.linear(x, weight.flatten(0, 1), bias.flatten())  # one product for the whole stack
    values, indices = hidden.view(-1, *bias.shape).transpose(0, 1).topk(max(k), sorted=unequal)
    del hidden  # the largest tensor of all
    if relu:
        values = values.relu()
    if unequal:
        reach = torch.tensor(k, device=x.device)[:, None, None]
        values = values * (torch.arange(max(k), device=x.device) < reach)
    return Codes(decode(values, indices, normalized(weight) if unit_rows else weight), values, indices)


def normalized(weight: Tensor) -> Tensor:
    """Return rows `(…, d)` brought to norm 1, unless shorter than 1e-12, or than the smallest normal number (float16: 6e-5)."""
    return F.normalize(weight, dim=-1, eps=max(1e-12, torch.finfo(weight.dtype).tiny))


def decode(values: Tensor, indices: Tensor, dictionary: Tensor) -> Tensor:
    r"""Return :math:`\sum_j v_j D_{i_j}` for every sample, `(sae, batch, d_in)`, of codes `(sae, batch, k)` and a `dictionary (sae, feature, d_in)`."""
    n_saes, n_features, d_in = dictionary.shape
    rows = indices + n_features * torch.arange(n_saes, device=indices.device)[:, None, None]
    flat = rows.flatten(0, 1), dictionary.flatten(0, 1)
    sums = F.embedding_bag(*flat, per_sample_weights=values.flatten(0, 1), mode="sum")
    return sums.view(n_saes, -1, d_in)
