"""Sums of dictionary rows named by sparse codes, with a gradient that stays sparse too.

Autograd's own gradient of the sum takes most of a training step on a CPU. Where PyTorch is built with MKL, two sparse
products on compressed sparse rows do the same; elsewhere the plain form, which is the reference, is used as it is.
"""

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 2048  # samples whose codes are transposed at once: their rows stay in the processor's cache


def decode(values: Tensor, indices: Tensor, dictionary: Tensor) -> Tensor:
    r"""Return :math:`\sum_j v_j D_{i_j}` for every sample, `(sae, batch, d_in)`.

    Parameters
    ----------
    values, indices : Tensor (sae, batch, k)
        Sparse codes: an activation, and the feature that it belongs to.
    dictionary : Tensor (sae, feature, d_in)
    """
    on_cpu = values.device.type == "cpu" and values.dtype == dictionary.dtype == torch.float32
    if on_cpu and torch.backends.mkl.is_available():
        return _SparseDecode.apply(values, indices, dictionary)
    return decode_reference(values, indices, dictionary)


def decode_reference(values: Tensor, indices: Tensor, dictionary: Tensor) -> Tensor:
    """Do the same in the plain form, on any device and in any floating dtype."""
    n_saes, n_features, d_in = dictionary.shape
    rows = indices + n_features * torch.arange(n_saes, device=indices.device)[:, None, None]
    sums = F.embedding_bag(
        rows.flatten(0, 1), dictionary.flatten(0, 1), per_sample_weights=values.flatten(0, 1), mode="sum"
    )
    return sums.view(n_saes, -1, d_in)


class _SparseDecode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, indices: Tensor, dictionary: Tensor) -> Tensor:
        ctx.save_for_backward(values, indices, dictionary)
        return decode_reference(values, indices, dictionary)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_sums: Tensor) -> tuple[Tensor, None, Tensor]:
        values, indices, dictionary = ctx.saved_tensors
        d_values, d_dictionary = torch.empty_like(values), torch.zeros_like(dictionary)
        for one, (value, index, d) in enumerate(zip(values, indices, d_sums.contiguous(), strict=True)):
            n_features = dictionary.shape[1]
            products = torch.sparse.sampled_addmm(_codes(value, index, n_features), d, dictionary[one].T, beta=0.0)
            d_values[one] = products.values().view_as(value)
            for v, i, rows in zip(value.split(ROWS), index.split(ROWS), d.split(ROWS), strict=True):
                d_dictionary[one] += _codes(v, i, n_features).t().to_sparse_csr() @ rows
        return d_values, None, d_dictionary


def _codes(values: Tensor, indices: Tensor, n_features: int) -> Tensor:
    """Codes `(batch, k)` as compressed sparse rows `(batch, feature)`."""
    n, k = indices.shape
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        return torch.sparse_csr_tensor(
            torch.arange(0, n * k + 1, k), indices.flatten(), values.flatten(), (n, n_features), check_invariants=False
        )
