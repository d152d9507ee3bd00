"""The mutual feature penalty (paper §3.3): its value, its weight α, its warm-up."""

import math
from functools import partial
from itertools import combinations
from typing import Literal, get_args

import torch
from torch import Tensor

from mfrlib.method.matching import Matches
from mfrlib.method.similarity import best_match, hungarian_match
from mfrlib.models.kernels import compiled, native
from mfrlib.models.kernels.modes import WithGradient, exact

Matching = Literal["max", "hungarian"]
Direction = Literal["one-way", "symmetric", "reversed"]


@exact
def mutual_feature_penalty(
    weight: Tensor, matching: Matching = "max", direction: Direction = "one-way", part: tuple[int, int] = (0, 1),
    matches: Matches | None = None,
) -> Tensor:  # fmt: skip
    r"""Mean dissimilarity of the dictionaries of a stack, a scalar from 0 to 2 that gradients flow through; NaN where a weight is.

    .. math:: \binom{N}{2}^{-1} \sum_{i<j} \big(1 - \text{MMCS}(W^{(i)}, W^{(j)})\big)

    Parameters
    ----------
    weight : Tensor (sae, feature, d_in)
        At least two SAEs, with rows of a norm from 1e-12 to 1e18, whose squares float32 has; `mmcs` takes rows of any norm.
    matching : {"max", "hungarian"}
        R9: the best row of the other SAE (the paper's text), or a one-to-one assignment (its released code).
    direction : {"one-way", "symmetric", "reversed"}
        R9b: rows of SAE i against SAE j > i only (the paper's text), the mean of both directions, or rows of SAE j against
        SAE i < j only (the released code until 19 September 2024). One-to-one matching is symmetric by itself.
    part : (int, int)
        Number and count of parts: of the mean over pairs, only the terms of every so-many-th pair. The parts add up to
        the penalty.
    matches : Matches, optional
        What is known of the best matches of this stack from earlier calls. It spares searches and changes nothing.

    Raises
    ------
    ValueError
        If it is no floating-point tensor of two SAEs or more, or there is no such matching, direction or part, or `hungarian` meets a weight that is not finite.

    Notes
    -----
    With the matching fixed, the summed cosines :math:`S` are bilinear in the unit rows :math:`u`, each pair of rows
    counting once for either side: their gradient :math:`G` is a sum of matched rows, and
    :math:`\langle u, G \rangle = 2 S`. The gradient of a maximum is that of the entry that attains it, so value and
    gradient equal the dense form's up to rounding; no similarity matrix is kept, whole or for the backward pass.
    """
    fits = isinstance(weight, Tensor) and weight.ndim == 3 and weight.is_floating_point()
    if not fits or len(weight) < 2 or 0 in weight.shape:
        given = f"{weight.dtype} {tuple(weight.shape)}" if isinstance(weight, Tensor) else type(weight).__name__
        raise ValueError(f"weight: a tensor (sae, feature, d_in) of two SAEs or more, of floating point, given {given}")
    if matching not in ("max", "hungarian") or direction not in get_args(Direction):
        wanted = "matching: 'max' or 'hungarian', direction: 'one-way', 'symmetric' or 'reversed'"
        raise ValueError(f"{wanted}, given {matching!r}, {direction!r}")
    if not 0 <= part[0] < part[1]:
        raise ValueError(f"part: number and count of parts, numbered from 0 to count - 1, given {part}")
    pairs = list(combinations(range(len(weight)), 2))
    back = [(j, i) for i, j in pairs]
    if matching == "max" and direction != "one-way":
        pairs = back if direction == "reversed" else pairs + back
    mine = pairs[part[0] :: part[1]]
    certified = matching == "max" and compiled.serve(weight) and compiled.certifies()
    with torch.no_grad():
        found = _certified(weight, matches or Matches(), mine) if certified else _matched(weight, matching, mine)
    cosines = WithGradient.apply(weight, *found, weight)
    return len(mine) / len(pairs) - cosines / (len(pairs) * weight.shape[1])


def _matched(weight: Tensor, matching: Matching, pairs: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Return the sum over pairs (i, j) and over rows of SAE i of the cosine with the matched row of SAE j, and its gradient."""
    wide, least = weight.to(torch.promote_types(weight.dtype, torch.float32)), torch.finfo(weight.dtype).tiny
    norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).clamp_(min=max(1e-12, least))  # float16 has no 1e-12
    unit, match = wide / norm, hungarian_match if matching == "hungarian" else partial(best_match, rescale=False)
    gradient = torch.zeros_like(unit)
    for i, j in pairs:
        row = match(unit[i], unit[j]).row
        gradient[i] += unit[j][row]
        gradient[j].index_add_(0, row, unit[i])
    along = torch.einsum("sfd,sfd->sf", unit, gradient)
    return along.sum() / 2, gradient.addcmul_(unit, along[..., None], value=-1).div_(norm)


def _certified(weight: Tensor, matches: Matches, pairs: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Return the same with the kernels' matches: the largest cosines, without a product in float32."""
    weight = weight.detach().contiguous()
    norm = torch.linalg.vector_norm(weight, dim=-1).clamp_(min=1e-12)
    unit = matches.update(weight, norm)
    table = torch.tensor(pairs, dtype=torch.int64, device="cpu").reshape(-1, 2)
    gradient, along = native.match_gradient(unit, norm, table, matches.rows(pairs))
    return along.sum() / 2, gradient


def warmup(step: int, n_steps: int) -> float:
    """Return the warm-up factor of a step, (1 − cos(π step / n_steps)) / 2: 0 at step 0, 1 from `n_steps` on (paper §4.1)."""
    return 1.0 if step >= n_steps else (1 - math.cos(math.pi * step / n_steps)) / 2


def calibrated_alpha(rule: Literal["balance", "loss"], loss: float, penalty: float) -> float:
    """Return α from the reconstruction loss (mean over the SAEs) and the penalty before training (R11); ValueError where `balance` meets SAEs that are alike.

    "balance" makes the two terms equal, α · penalty = loss (GPT-2, §4.1); "loss" sets α = loss (EEG, §4.2).
    """
    if rule == "loss":
        return loss
    if penalty <= 0:
        raise ValueError(f"calibration 'balance': needs SAEs that differ at the start, their penalty is {penalty}")
    return loss / penalty
