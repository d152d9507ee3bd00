"""A stack on held-out data: how well it reconstructs, what it uses, and how far its dictionaries lie apart."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mfrlib.config import require
from mfrlib.data.in_memory import as_rows
from mfrlib.data.loader import blocks
from mfrlib.method.reinit import inactivity
from mfrlib.method.similarity import coherence, hungarian_match, mmcs
from mfrlib.method.spread import ErrorSpread
from mfrlib.models.kernels.modes import exact
from mfrlib.models.objectives import FVU, reconstruction_loss
from mfrlib.models.stack import SAEStack
from mfrlib.randomness import usual_defaults


class HeldOut(NamedTuple):
    """Measures of a stack.

    Attributes
    ----------
    results : dict
        Lists with one value per SAE: `loss` (mean squared error), `fvu`, `l0` (active features per sample), `dead` (share
        of features), `inactivity`; `error_median` and `error_largest` (`mfrlib.method.spread`); `distance`,
        `distance_matched`, and of the weights as they are `distance_raw`, `distance_raw_matched`; of two SAEs or more `mmcs_across`, the mean MMCS with
        the others; of the features that are active at all, `coherence`, `coherence_chance` (of as many random ones)
        and `per_dimension` (`features_per_dimension`).
    rate : ndarray (sae, feature)
        Activation probabilities.
    mean : Tensor (d_in,)
        Of the data.
    n : int
        Samples.
    """

    results: dict[str, Any]
    rate: np.ndarray
    mean: Tensor
    n: int


@usual_defaults()
@exact
@torch.no_grad()
def evaluate(sae: SAEStack, batches: Any) -> HeldOut:
    """Measure a stack on rows, and its dictionaries against each other (§4.3, R20).

    `distance` is the Frobenius norm of the difference between an SAE's decoder and that of the SAE with the smallest k, row by row as in
    the paper. If several share the smallest k, the first counts; without a k, the SAE with the fewest active features. `distance_matched` is the
    same after the rows, which have no order, are matched one to one; this takes 12 bytes per pair of features. Between unit rows the first is pinned: rows that have nothing to do with each other are
    √(2 n_features) apart. On the weights as they are (`distance_raw`), the paper's tied decoder, it may move.

    Parameters
    ----------
    sae : TopKSAE, ReLUSAE, or what `load_foreign` gives
    batches : Tensor or array (n, d_in), or an iterable of such batches
        Converted to the SAE's floating-point type.

    Raises
    ------
    TypeError
        If `sae` is no stack of SAEs.
    ConfigError
        If its weights are not finite, the data are no rows of finite floating-point numbers, or there are none; ValueError for another width.

    Examples
    --------
    >>> import torch
    >>> from mfrlib import TopKSAE, evaluate
    >>> found = evaluate(TopKSAE(n_saes=2, d_in=8, n_features=16, k=4), torch.randn(100, 8))
    >>> found.results["l0"], found.rate.shape
    ([4.0, 4.0], (2, 16))
    """
    if not isinstance(sae, SAEStack):
        raise TypeError(f"sae: a TopKSAE, a ReLUSAE, or what load_foreign gives, given {type(sae).__name__}")
    require(sae.finite(), "sae", sae, "must have finite weights")
    wide = torch.promote_types(sae.weight.dtype, torch.float32)  # half precision is not measured in half precision
    n_saes, n_features, device = *sae.weight.shape[:2], sae.weight.device
    counts, loss = (torch.zeros(size, dtype=torch.float64) for size in ((n_saes, n_features), n_saes))
    fvu, spread, n = FVU(), ErrorSpread(n_saes), 0
    for x in blocks(batches):
        if x.dtype != sae.weight.dtype:
            x = as_rows(x, f"data from row {n} on", sae.weight.dtype)
        output = sae(x.to(device))
        counts += sae.usage(output)[0].cpu()
        found, x = output.reconstruction.to("cpu", wide), x.to("cpu", wide)
        fvu.update(found, x)
        spread.update(found, x)
        loss += reconstruction_loss(found, x) * len(x)
        n += len(x)
    require(n > 0, "batches", type(batches).__name__, "must give a batch at least")
    rates, dictionaries = (counts / n).float(), sae.dictionary.to("cpu", wide)
    l0 = counts.sum(1) / n
    first = int(np.argmin(l0.numpy() if sae.k is None else sae.k))
    results = {
        "loss": (loss / n).to(wide).tolist(),
        "fvu": fvu.value().tolist(),
        "l0": l0.tolist(),
        "dead": (rates == 0).float().mean(1).tolist(),
        "inactivity": inactivity(rates, sae.k).tolist(),
        "error_median": spread.median().tolist(),
        "error_largest": spread.share_of_largest().tolist(),
    }
    for name, stack in (("distance", dictionaries), ("distance_raw", sae.weight.to("cpu", wide))):
        target = stack[first]
        results[name] = [(one - target).norm().item() for one in stack]
        others = (one if i == first else target[hungarian_match(one, target).row] for i, one in enumerate(stack))
        results[f"{name}_matched"] = [(one - other).norm().item() for one, other in zip(stack, others, strict=True)]
    if n_saes > 1:
        results["mmcs_across"] = [
            float(np.mean([mmcs(one, other) for j, other in enumerate(dictionaries) if j != i]))
            for i, one in enumerate(dictionaries)
        ]
    alive = [one[rate > 0] for one, rate in zip(dictionaries, rates, strict=True)]
    draws = torch.Generator().manual_seed(0)
    results["coherence"] = [coherence(one).item() for one in alive]
    results["coherence_chance"] = [coherence(torch.randn(one.shape, generator=draws)).item() for one in alive]
    results["per_dimension"] = [features_per_dimension(one) for one in alive]
    return HeldOut(results, rates.numpy(), (fvu.total / n).float(), n)


def features_per_dimension(dictionary: Tensor) -> float:
    r"""Return how many features `(feature, d_in)` share a dimension: 1 if orthogonal, n / d if n fill d evenly, or more.

    .. math:: \frac1n \sum_i \sum_j \cos^2(w_i, w_j)

    The mean of the reciprocals of the features' dimensionality (Elhage et al. 2022, Toy Models of Superposition). It is
    of an SAE's features, not of the data's, whose number nobody knows.
    """
    unit = torch.nn.functional.normalize(dictionary, dim=-1)
    return float((unit.T @ unit).square().sum() / len(unit))  # d × d, and the same sum of squares as n × n
