"""What the SAEs of several seeds and objectives have in common, and what only one objective finds."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mfrbook.chapters.end_to_end import stability
from mfrbook.drawing.features.description import Passage, describe, least_alike
from mfrbook.drawing.palette import STYLE
from mfrbook.drawing.statistics import interval, pseudo_values
from mfrbook.experiments.conditions import Seeds
from mfrlib.language_models.language_model import LanguageModel
from mfrlib.method.similarity import chance_level
from mfrlib.training.loop import Stack

LIKENESS = {"MMCS": False, "matched cosine": True}


ACROSS = (
    ("local", "local"), ("e2e", "e2e"), ("downstream", "downstream"), ("e2e-mfr", "e2e-mfr"),
    ("e2e", "local"), ("downstream", "local"), ("e2e", "downstream"),
)  # fmt: skip


OFTEN, SELDOM = 0.1, 0.001  # share of tokens: features between the two are looked at as examples


def name(condition: str) -> str:
    """Return what a condition is called."""
    return STYLE[condition][0]


def across(seeds: Seeds) -> list[tuple[str, str]]:
    """Return those pairs of `ACROSS` of which there are runs."""
    return [pair for pair in ACROSS if set(pair) <= set(seeds[0])]


def likeness(seeds: Seeds) -> pd.DataFrame:
    """Return a row per comparison of alive features: MMCS and matched cosine with their 95 % intervals, and chance.

    Dictionaries of different seeds are compared for SAEs that raise the CE by about as much (`stability.comparable`);
    those of one stack as they are, whatever their sparsity.
    """
    picked = stability.comparable(seeds)
    rows: list[dict[str, Any]] = []
    for first, second in across(seeds):
        places = (first, picked[first]), (second, picked[second])
        names = " and ".join(name(one) for one in dict.fromkeys((first, second)))
        row: dict[str, Any] = {"condition": first, "features of": names, "compared": "across seeds"}
        pair = [
            stability.dictionary(runs[one], sae) for runs, (one, sae) in zip((seeds[0], seeds[-1]), places, strict=True)
        ]
        for label, matched in LIKENESS.items():
            values = pseudo_values(stability.across_seeds(seeds, *places, matched=matched))
            row |= _estimate(label, values, stability.chance(*pair, matched=matched))
        rows.append(row)
    for condition in ("e2e", "e2e-mfr") if "e2e-mfr" in seeds[0] else ():
        row = {"condition": condition, "features of": name(condition), "compared": "within a stack"}
        pair = [stability.dictionary(seeds[0][condition], sae) for sae in (0, -1)]
        for label, matched in LIKENESS.items():
            values = np.array(stability.within_groups(seeds, condition, matched=matched))
            row |= _estimate(label, values, stability.chance(*pair, matched=matched))
        rows.append(row)
    return pd.DataFrame(rows)


def _estimate(label: str, values: np.ndarray, chance: float) -> dict[str, float]:
    middle, low, high = (float(one) for one in interval(values))
    return {label: middle, f"{label} low": low, f"{label} high": high, f"{label} chance": chance}


def only_in(
    seeds: Seeds,
    mine: str,
    other: str,
    model: LanguageModel,
    stack: Stack,
    batches: Iterable[Tensor],
    *,
    skip: int,
) -> pd.DataFrame:
    """Return features of one objective, first seed, that are least like any alive feature of another, in any seed, with chance."""
    picked = stability.comparable(seeds)
    run, sae = seeds[0][mine], picked[mine]
    others = torch.cat([stability.dictionary(runs[other], picked[other]) for runs in seeds])
    rates = torch.as_tensor(run.arrays["rate"][sae])
    chosen = least_alike(stack.dictionary[sae].detach().cpu(), others, rates, 6, SELDOM, OFTEN)
    numbers = [number for number, _ in chosen]
    chance = chance_level(len(numbers), *others.shape) if numbers and len(others) else float("nan")
    found = describe(model, stack, sae, run.config["hook"], batches, numbers, skip=skip, n_passages=2)
    return pd.DataFrame(
        {
            "feature": feature.number,
            "active on": f"{100 * feature.rate:.3g} %",
            "best cosine": cosine,
            "a random one's": chance,
            "where": " … ".join(_bracketed(one) for one in feature.passages),
            "promotes": " ".join(repr(text)[1:-1] for text, _ in feature.promoted[:5]),
        }
        for feature, (_, cosine) in zip(found, chosen, strict=True)
    )


def _bracketed(passage: Passage) -> str:
    start = max(0, passage.peak - 6)
    before, after = passage.tokens[start : passage.peak], passage.tokens[passage.peak + 1 : passage.peak + 3]
    return "".join(before) + "[" + passage.tokens[passage.peak] + "]" + "".join(after)
