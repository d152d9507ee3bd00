"""What a feature of a language model's SAE is active on, and what it does to the output."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mfrlib.language_models.language_model import LanguageModel
from mfrlib.method.similarity import best_match
from mfrlib.models.stack import SAEStack


class Passage(NamedTuple):
    """Tokens around a strong activation, and the feature's activation on each; `peak` is the place of the strongest."""

    tokens: list[str]
    activations: list[float]
    peak: int


class Feature(NamedTuple):
    """One feature of one SAE."""

    number: int
    """Row of the dictionary."""
    rate: float
    """Share of positions at which its activation is positive; negative ones, which some SAEs have, count as active elsewhere."""
    passages: list[Passage]
    """Where it is most active, strongest first, one at most of each sequence."""
    counts: list[int]
    """Histogram of its activations above 0, in equal bins from 0 to `largest`."""
    largest: float
    promoted: list[tuple[str, float]]
    """Tokens that it makes likelier by the direct path, and how much one unit of it adds to their logit."""
    suppressed: list[tuple[str, float]]


@torch.no_grad()
def describe(
    model: LanguageModel,
    stack: SAEStack,
    sae: int,
    hook: str,
    batches: Iterable[Tensor],
    numbers: Sequence[int],
    *,
    skip: int = 0,
    n_passages: int = 4,
    around: tuple[int, int] = (12, 6),
    n_tokens: int = 8,
    n_bins: int = 20,
) -> list[Feature]:
    """Describe some features of one SAE of a stack, on sequences of tokens.

    Parameters
    ----------
    batches : iterable of Tensor (sequence, position)
    numbers : sequence of int
        Which features.
    skip : int
        Positions at the start of each sequence that the SAE does not see.
    n_passages, n_tokens, n_bins : int
        Passages, promoted and suppressed tokens, and bins of the histogram of each feature.
    around : (int, int)
        Tokens shown before and after the strongest one.
    """
    tokens, activations = [], []
    for batch in batches:
        whole = model.activations(batch, [hook])[hook][:, skip:]
        codes = stack.encode(whole.flatten(0, 1))[sae][:, list(numbers)]
        activations.append(codes.view(*whole.shape[:2], -1).cpu())
        tokens.append(batch[:, skip:].cpu())
    ids, values = torch.cat(tokens), torch.cat(activations)  # (sequence, position), (sequence, position, feature)
    effects = logit_effects(model, stack.dictionary[sae, list(numbers)])
    found = []
    for place, number in enumerate(numbers):
        own = values[..., place]
        above = own[own > 0]
        largest = float(above.max()) if len(above) else 0.0
        histogram = torch.histc(above.float(), n_bins, 0, largest) if len(above) else torch.zeros(n_bins)
        order = effects[place].argsort(descending=True)
        promoted, suppressed = (
            [(model.token_texts([one])[0], effects[place, one].item()) for one in some.tolist()]
            for some in (order[:n_tokens], order.flip(0)[:n_tokens])
        )
        passages = _passages(model, ids, own, n_passages, around)
        rate = (own > 0).float().mean().item()
        found.append(Feature(number, rate, passages, histogram.int().tolist(), largest, promoted, suppressed))
    return found


def _passages(model: LanguageModel, ids: Tensor, own: Tensor, n: int, around: tuple[int, int]) -> list[Passage]:
    strongest, places = own.max(dim=1)
    found = []
    for sequence in strongest.argsort(descending=True)[:n].tolist():
        if strongest[sequence] <= 0:
            break
        place = int(places[sequence])
        start, stop = max(0, place - around[0]), min(ids.shape[1], place + around[1] + 1)
        texts = model.token_texts(ids[sequence, start:stop])
        found.append(Passage(texts, own[sequence, start:stop].tolist(), place - start))
    return found


@torch.no_grad()
def logit_effects(model: LanguageModel, rows: Tensor) -> Tensor:
    r"""Return what each direction adds to the logits by the direct path, `(feature, vocabulary)`, mean 0 over tokens.

    .. math:: U^\top \big( \gamma \odot (w - \bar w) \big)

    with γ the final norm's weight (:math:`\bar w` is left out where that norm subtracts no mean) and U the unembedding:
    through the residual stream straight to the output, up to the final norm's positive scale. What later blocks make
    of the feature is not in it.

    Parameters
    ----------
    rows : Tensor (feature, d_model)
    """
    bridge = model.bridge
    if bridge.cfg.normalization_type in ("LN", "LNPre"):
        rows = rows - rows.mean(-1, keepdim=True)
    weight = getattr(bridge.ln_final, "weight", None)
    effects = (rows if weight is None else rows * weight) @ bridge.W_U
    return effects - effects.mean(-1, keepdim=True)


def spread(rates: Tensor, n: int, least: float = 0.0) -> list[int]:
    """Pick n features that are active on more than a share `least` of positions, evenly from the rarest to the commonest."""
    order = rates.argsort()
    alive = order[rates[order] > least]
    places = torch.linspace(0, len(alive) - 1, min(n, len(alive))).round().long()
    return alive[places].tolist()


def least_alike(
    rows: Tensor, others: Tensor, rates: Tensor, n: int, least: float, most: float
) -> list[tuple[int, float]]:
    """Return the n features with the smallest best cosine with any row of other dictionaries, and that cosine.

    Parameters
    ----------
    rows : Tensor (feature, d_in)
    others : Tensor (any, d_in)
    rates : Tensor (feature,)
        Only features active on a share of positions between `least` and `most` are looked at.
    """
    best = best_match(normalize(rows, dim=-1), others).cosine
    looked_at = ((rates >= least) & (rates <= most)).nonzero()[:, 0]
    order = looked_at[best[looked_at].argsort()][:n]
    return [(number, best[number].item()) for number in order.tolist()]
