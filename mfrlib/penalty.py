"""The mutual feature penalty (paper §3.3): its value, its weight α, its warm-up."""

import math
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

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
    The matching is found without gradient and only the matched rows are differentiated: the gradient of a maximum is
    that of the entry that attains it, so it equals the dense form's up to rounding.
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
    total = weight.new_zeros(())
    for i, j in pairs:
        with torch.no_grad():
            row = match(weight[i], weight[j]).row
        total = total + 1 - cosine_similarity(weight[i], weight[j][row], dim=1).mean()
    return total / len(pairs)


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
