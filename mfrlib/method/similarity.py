"""How alike two dictionaries `(feature, d_in)` are, what chance gives, and how alike the rows of one are."""

from typing import NamedTuple

import scipy  # its parts, which take long, are imported when they are first used
import torch
import torch.nn.functional as F
from torch import Tensor

from mfrlib.models.kernels.modes import exact
from mfrlib.randomness import usual_defaults

BLOCK = 1024  # rows of a similarity matrix held at once: memory stays a tile, however large the dictionaries


class Match(NamedTuple):
    """For each row of one dictionary, its cosine with a row of the other, and which that is: `(feature,)` both."""

    cosine: Tensor
    row: Tensor


@exact
def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine of every row of `a` with every row of `b`: `(feature_a, feature_b)`; 0 with a row of zeros."""
    unit_a, unit_b = _unit_rows(a, b)
    return unit_a @ unit_b.T


def _unit_rows(a: Tensor, b: Tensor, rescale: bool = True) -> tuple[Tensor, Tensor]:
    if not all(isinstance(one, Tensor) and one.is_floating_point() for one in (a, b)):
        given = " and ".join(str(getattr(one, "dtype", type(one).__name__)) for one in (a, b))
        raise TypeError(f"dictionaries: two floating-point tensors, given {given}; torch.as_tensor(x) makes one")
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or 0 in (*a.shape, *b.shape):
        given = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise ValueError(f"dictionaries: two (feature, d_in) of one d_in, given shapes {given}")
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)  # halves have three digits
    return _unit(a.to(dtype), rescale), _unit(b.to(a.device, dtype), rescale)


def _unit(rows: Tensor, rescale: bool) -> Tensor:
    if rescale:  # or squares of some entries would overflow, or become 0
        size = rows.detach().abs().amax(dim=1, keepdim=True)
        rows = rows / size.where((size > 0) & ((size < 1e-12) | (size > 1e15)), 1)
    return F.normalize(rows, dim=1)


@exact
def best_match(a: Tensor, b: Tensor, *, rescale: bool = True) -> Match:
    """Return for each row of `a (feature, d_in)` the row of `b (feature, d_in)` with the largest cosine; rows of `b` may be used again. Without `rescale` norms must be from 1e-12 to 1e18."""
    unit_a, unit_b = _unit_rows(a, b, rescale)
    blocks = [(block @ unit_b.T).max(dim=1) for block in unit_a.split(BLOCK)]
    return Match(torch.cat([one.values for one in blocks]), torch.cat([one.indices for one in blocks]))


def hungarian_match(a: Tensor, b: Tensor) -> Match:
    """Return the one-to-one assignment of rows of `a` to rows of `b` with the largest total cosine (paper §3.3).

    Where `a` has more rows than `b`, those left over get cosine NaN and index -1. The cost grows with the cube of the
    number of features. ValueError if an entry is not finite.
    """
    with torch.no_grad():
        similarity = cosine(a, b).cpu()
    if not torch.isfinite(similarity).all():
        raise ValueError("dictionaries: must be finite, given NaN or Inf")
    rows, columns = scipy.optimize.linear_sum_assignment(similarity.double().numpy(), maximize=True)
    index = similarity.new_full((len(a),), -1, dtype=torch.int64)
    index[torch.from_numpy(rows)] = torch.from_numpy(columns)
    matched = torch.where(index >= 0, similarity.gather(1, index.clamp(min=0)[:, None])[:, 0], torch.nan)
    return Match(matched.to(a.device), index.to(a.device))


def mmcs(a: Tensor, b: Tensor) -> Tensor:
    r"""Mean max cosine similarity (paper §3.3), a scalar from -1 to 1.

    .. math:: \text{MMCS}(A, B) = \frac{1}{|A|} \sum_{w \in A} \max_{v \in B} \cos(w, v)

    It is one-directional: rows of `b` that no row of `a` is near do not count.

    Parameters
    ----------
    a, b : Tensor (feature, d_in)
        Dictionaries of any library, of any norm, floating point and of one d_in (TypeError or ValueError otherwise). NaN
        gives NaN.

    Examples
    --------
    Features in another order and of another length are the same features:

    >>> import torch
    >>> from mfrlib import mmcs
    >>> a = torch.eye(3)
    >>> round(float(mmcs(a, 2 * a.flip(0))), 3), round(float(mmcs(a, -a)), 3)
    (1.0, 0.0)
    """
    return best_match(a, b).cosine.mean()


def matched_cosine(a: Tensor, b: Tensor) -> Tensor:
    r"""Mean cosine over the Hungarian one-to-one match (paper §3.3, R9), a scalar from -1 to 1.

    .. math:: \max_\pi \frac{1}{|A|} \sum_{w \in A} \cos(w, \pi(w)), \qquad \pi: A \to B \text{ one-to-one}

    Never more than `mmcs`, unless `a` has more rows than `b`: those left over do not count here. No gradient flows: `mutual_feature_penalty` has one.

    Parameters
    ----------
    a, b : Tensor (feature, d_in)
        As of `mmcs`, but finite (ValueError otherwise).
    """
    return hungarian_match(a, b).cosine.nanmean()


def coherence(a: Tensor) -> Tensor:
    """Mean over the rows of a dictionary of the largest cosine with *another* row of it, a scalar (Q7).

    Near 1 where features are duplicated, which raises `mmcs` cheaply. NaN for fewer than two rows, which have no other.
    """
    if len(a) < 2:
        return a.new_full((), torch.nan)
    best = []
    for start in range(0, len(a), BLOCK):
        similarity = cosine(a[start : start + BLOCK], a)
        similarity.diagonal(start).fill_(-1)
        best.append(similarity.max(dim=1).values)
    return torch.cat(best).mean()


def unique_matches(a: Tensor, b: Tensor) -> float:
    """Share of distinct rows of `b` among the best matches of the rows of `a` (Q8): 1 where no two rows of `a` crowd."""
    return len(best_match(a, b).row.unique()) / min(len(a), len(b))


@usual_defaults()
def chance_level(n_a: int, n_b: int, d_in: int, *, matched: bool = False, n_draws: int = 5, seed: int = 0) -> float:
    """Return what `mmcs` (or `matched_cosine`) gives on average for two random Gaussian dictionaries (Q2)."""
    generator = torch.Generator().manual_seed(seed)
    measure = matched_cosine if matched else mmcs
    draws = [
        measure(torch.randn(n_a, d_in, generator=generator), torch.randn(n_b, d_in, generator=generator))
        for _ in range(n_draws)
    ]
    return float(torch.stack(draws).mean())
