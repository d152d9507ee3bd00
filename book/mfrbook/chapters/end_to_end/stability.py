"""Do SAEs find the same features: across seeds, across objectives, within a group that was pulled together?"""

import functools

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from mfrbook.chapters.end_to_end.pareto import points
from mfrbook.experiments.conditions import Seeds
from mfrbook.store.runs import Run
from mfrlib.method.similarity import chance_level, matched_cosine, mmcs


def dictionary(run: Run, sae: int) -> Tensor:
    """Return the unit decoder rows of the alive features of one SAE, `(alive, d_in)`."""
    return normalize(run.weights["weight"][sae], dim=-1)[torch.as_tensor(run.arrays["rate"][sae] > 0)]


def likeness(a: Tensor, b: Tensor, *, matched: bool = False) -> float:
    """Return MMCS of two dictionaries, mean of both directions; or the matched cosine. NaN where one has no feature."""
    if min(len(a), len(b)) == 0:
        return float("nan")
    return matched_cosine(a, b).item() if matched else (mmcs(a, b).item() + mmcs(b, a).item()) / 2


def chance(a: Tensor, b: Tensor, *, matched: bool = False) -> float:
    """Return what random dictionaries of nearly the same sizes score: more rows to choose from, larger cosines (Q2)."""
    sizes = sorted(max(1, round(len(one) / 16) * 16) for one in (a, b))
    return _chance(sizes[0], sizes[1], a.shape[1], matched)


@functools.cache
def _chance(n_a: int, n_b: int, d_in: int, matched: bool) -> float:
    both = [chance_level(*sizes, d_in, matched=matched, n_draws=2) for sizes in ((n_a, n_b), (n_b, n_a))]
    return both[0] if matched else sum(both) / 2


def comparable(seeds: Seeds) -> dict[str, int]:
    """Return for each condition the SAE whose mean CE increase is nearest to that of e2e's first one."""
    means = points(seeds).groupby(["condition", "sae"])["CE increase"].mean()
    target = means["e2e", 0]
    return {condition: int((means[condition] - target).abs().idxmin()) for condition in seeds[0]}


def across_seeds(
    seeds: Seeds, first: tuple[str, int], second: tuple[str, int], *, matched: bool = False, above_chance: bool = False
) -> np.ndarray:
    """Return the likeness of two (condition, SAE) for every pair of *different* seeds, `(seed, seed)`; NaN on the diagonal.

    Two SAEs of one seed start from the same weights, so that they are never compared.
    """
    found = np.full((len(seeds), len(seeds)), np.nan)
    for i, one in enumerate(seeds):
        for j, other in enumerate(seeds):
            if i == j or (first == second and j < i):
                continue
            a, b = dictionary(one[first[0]], first[1]), dictionary(other[second[0]], second[1])
            found[i, j] = likeness(a, b, matched=matched) - (chance(a, b, matched=matched) if above_chance else 0)
            if first == second:
                found[j, i] = found[i, j]
    return found


def within_groups(seeds: Seeds, condition: str, *, matched: bool = False) -> list[float]:
    """Return for each seed the mean likeness of the SAEs of one stack."""
    found = []
    for runs in seeds:
        rows = [dictionary(runs[condition], sae) for sae in range(len(runs[condition].weights["weight"]))]
        pairs = [(a, b) for i, a in enumerate(rows) for b in rows[i + 1 :]]
        found.append(float(np.mean([likeness(a, b, matched=matched) for a, b in pairs])) if pairs else np.nan)
    return found
