"""Features of the three objectives: a page to look at them, those that only one objective finds, and how well a token alone predicts them (D4)."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from mfrbook.chapters.end_to_end import comparison, runs, stability
from mfrbook.drawing.features import page as feature_page
from mfrbook.drawing.features import token_score
from mfrbook.drawing.features.page import Shown
from mfrbook.drawing.tables import with_interval
from mfrbook.experiments.conditions import Seeds
from mfrbook.store.runs import Run
from mfrlib.method.similarity import best_match

EXAMPLES = {"n_features": 12, "n_passages": 3}  # beside a notebook's own runs; features.page.write makes larger pages
OBJECTIVES = ("local", "e2e", "downstream")
COMMON = 0.01
"""Share of tokens from which on a feature counts as common."""
KINDS = {
    "all": "all alive",
    "rare": f"active on less than {100 * COMMON:g} % of tokens",
    "common": "active on more",
}
N_FEATURES = 40
"""Features of each objective on the page of SAEs at equal L0."""


def examples(config: runs.EndToEndConfig, seeds: Seeds, picked: Mapping[str, int]) -> dict[str, Any]:
    """Return the tables of features that `only` one objective finds, and a `page` of features of the first seed's SAEs."""
    first, place, skip = seeds[0], runs.opened(config), int(config.bos)
    texts = list(runs.batches(place, config.n_usage))
    only = {
        mine: comparison.only_in(seeds, mine, other, place.model, runs.stack_of(first[mine]), texts, skip=skip).to_dict(
            "records"
        )
        for mine, other in (("e2e", "local"), ("local", "e2e"))
    }
    page = feature_page.fragment(_shown(first, picked), place.model, texts, skip=skip, **EXAMPLES)
    return {"only": only, "page": page}


def at_equal_l0(config: runs.EndToEndConfig, seeds: Seeds) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Return a `page` of features of the first seed's SAEs, each alone in its stack, and what is known of those of all seeds.

    That is, by objective, the features' token `auc` (NaN without a score) and the `cosine` with the nearest alive feature of the other
    seeds' SAEs, each `(seed, feature)`.
    """
    place, skip = runs.opened(config), int(config.bos)
    batches, found = list(runs.batches(place, config.n_usage)), {}
    text = token_score.read(place.model, config.hook, batches, skip=skip)
    for name in seeds[0]:
        stacks = [runs.stack_of(one[name]) for one in seeds]
        alive = [stability.dictionary(one[name], 0) for one in seeds]
        found[f"auc {name}"] = np.stack([token_score.scores(stack, 0, text) for stack in stacks])
        found[f"cosine {name}"] = np.stack(
            [
                best_match(stack.dictionary[0].detach(), torch.cat([*alive[:seed], *alive[seed + 1 :]])).cosine.numpy()
                for seed, stack in enumerate(stacks)
            ]
        )
    shown = _shown(seeds[0], dict.fromkeys(seeds[0], 0))
    return {"page": feature_page.light(shown, place.model, batches, n_features=N_FEATURES, skip=skip)}, found


def _shown(first: Mapping[str, Run], picked: Mapping[str, int]) -> list[Shown]:
    return [
        Shown(
            comparison.name(name),
            runs.stack_of(first[name]),
            picked[name],
            first[name].config["hook"],
            first[name].arrays["rate"][picked[name]],
        )
        for name in OBJECTIVES
    ]


def scores(compared: Run, seeds: Seeds) -> pd.DataFrame:
    """Return how well tokens predict features of SAEs at equal L0, of all and by how often they are active; means over seeds."""
    rows = []
    for name in OBJECTIVES:
        for kind, words in KINDS.items():
            row = {"SAE": comparison.name(name), "features": words} | token_score.row(
                known(compared, name, seeds, kind)
            )
            rows.append(row | {"shared by another seed": with_interval(_shared(compared, name, seeds, kind))})
    return pd.DataFrame(rows)


def values(compared: Run, seeds: Seeds) -> dict[str, float]:
    """Return the numbers that the prose names: of each objective how many features have a score, and the median by kind; means over seeds."""
    found: dict[str, float] = {"looked": len(seeds), "common_from": COMMON}
    for name in OBJECTIVES:
        found[f"scored_all_{name}"] = float(np.mean([len(one) for one in known(compared, name, seeds)]))
        for kind in KINDS:
            medians = [np.median(one) for one in known(compared, name, seeds, kind)]
            found[f"auc_{kind}_{name}"] = float(np.mean(medians))
    return found


def known(compared: Run, name: str, seeds: Seeds, kind: str = "all") -> list[np.ndarray]:
    """Return by seed the scores of an objective's features that have one, of a kind in `KINDS`."""
    both = zip(compared.arrays[f"auc {name}"], _of_kind(name, seeds, kind), strict=True)
    return [token_score.known(auc[mask]) for auc, mask in both]


def _shared(compared: Run, name: str, seeds: Seeds, kind: str) -> list[int]:
    both = zip(compared.arrays[f"cosine {name}"], _of_kind(name, seeds, kind), strict=True)
    return [int((cosine[mask] >= token_score.SHARED).sum()) for cosine, mask in both]


def _of_kind(name: str, seeds: Seeds, kind: str) -> Iterator[np.ndarray]:
    for one in seeds:
        rate = one[name].arrays["rate"][0]
        yield (rate > 0) & {"all": True, "rare": rate < COMMON, "common": rate >= COMMON}[kind]
