"""The mutual feature penalty (paper §3.3): its value, its weight α, its warm-up."""

import math
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mfrlib.similarity import best_match, hungarian_match

Matching = Literal["max", "hungarian"]
Direction = Literal["one-way", "symmetric"]


def mutual_feature_penalty(weight: Tensor, matching: Matching = "max", direction: Direction = "one-way") -> Tensor:
    r"""Mean dissimilarity of the dictionaries of a stack, a scalar that gradients flow through.

    .. math:: \binom{N}{2}^{-1} \sum_{i<j} \big(1 - \text{MMCS}(W^{(i)}, W^{(j)})\big)

    Parameters
    ----------
    weight : Tensor (sae, feature, d_in)
        At least two SAEs.
    matching : {"max", "hungarian"}
        R9: the best row of the other SAE (the paper's text), or a one-to-one assignment (its released code).
    direction : {"one-way", "symmetric"}
        R9b: rows of SAE i against SAE j > i only (the paper's text), or the mean of both directions. One-to-one
        matching is symmetric by itself.

    Notes
    -----
    With the matching fixed, the summed cosines :math:`S` are bilinear in the unit rows :math:`u`, each pair of rows
    counting once for either side. Their gradient :math:`G` is gathered without autograd, from matched rows only, and
    :math:`\langle u, G \rangle = 2 S`: so :math:`\langle u, G \rangle - S`, with :math:`G` and :math:`S` held fixed,
    has the value and the gradient wanted. The gradient of a maximum is that of the entry that attains it, so both
    equal the dense form's up to rounding.
    """
    if weight.ndim != 3 or len(weight) < 2:
        raise ValueError(f"weight: (sae, feature, d_in) of two SAEs or more, given shape {tuple(weight.shape)}")
    if matching not in ("max", "hungarian") or direction not in ("one-way", "symmetric"):
        raise ValueError(
            f"matching: 'max' or 'hungarian', direction: 'one-way' or 'symmetric', given {matching!r}, {direction!r}"
        )
    match = hungarian_match if matching == "hungarian" else best_match
    pairs = list(combinations(range(len(weight)), 2))
    if direction == "symmetric" and matching == "max":
        pairs += [(j, i) for i, j in pairs]
    unit = normalize(weight, dim=-1)
    with torch.no_grad():
        gradient = torch.zeros_like(unit)
        for i, j in pairs:
            row = match(unit[i], unit[j]).row
            gradient[i] += unit[j][row]
            gradient[j].index_add_(0, row, unit[i])
        matched = (unit * gradient).sum() / 2
    cosines = (unit * gradient).sum() - matched
    return 1 - cosines / (len(pairs) * weight.shape[1])


def warmup(step: int, n_steps: int) -> float:
    """Return the cosine warm-up factor of a step: 0 at step 0, 1 from `n_steps` on (paper §4.1)."""
    return 1.0 if step >= n_steps else (1 - math.cos(math.pi * step / n_steps)) / 2


def calibrated_alpha(rule: Literal["balance", "loss"], loss: float, penalty: float) -> float:
    """Return α from the reconstruction loss (mean over the SAEs) and the penalty before training (R11).

    "balance" makes the two terms equal, α · penalty = loss (GPT-2, §4.1); "loss" sets α = loss (EEG, §4.2).
    """
    if rule == "loss":
        return loss
    if penalty <= 0:
        raise ValueError(f"calibration 'balance': needs SAEs that differ at the start, their penalty is {penalty}")
    return loss / penalty
