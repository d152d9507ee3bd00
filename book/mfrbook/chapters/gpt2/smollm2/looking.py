"""A real model's features to look at, and how well a token alone predicts each: a run of its own, that keeps the answers while weights come and go.

Both SAEs are those of the middle k of one seed, without the penalty and with it: at equal L0. The page takes features evenly from the
rarest to the commonest alive one, not for being nice.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from mfrbook.chapters.gpt2 import runs as gpt2
from mfrbook.chapters.gpt2.smollm2 import runs as smollm2
from mfrbook.drawing.features import page as feature_page
from mfrbook.drawing.features import token_score
from mfrbook.experiments.planned import Asked, Collect, Planned, archived, collector
from mfrbook.store.retired import build
from mfrbook.store.runs import Run, describe_config, run_key
from mfrbook.store.stacks import stack_of
from mfrbook.store.store import Store
from mfrlib.config import option, require, require_types
from mfrlib.environment import cache_folder
from mfrlib.language_models.pretrained.gguf import SMOLLM2
from mfrlib.method.similarity import best_match

SHOWN = {"baseline": "without the penalty", "penalty": "with the penalty"}
ARCHIVED_SEEDS = 3
"""Of how many seeds, from 0 on, the archive holds a run; the page is the first one's."""


@dataclass(frozen=True, kw_only=True)
class LookingConfig:
    """The runs looked at."""

    runs: tuple[str, ...] = option((), "keys of the runs, in the order of the page")
    n_sequences: int = option(300, "held-out sequences that are read")
    n_features: int = option(40, "features of each SAE on the page")
    seed: int = option(0, "seed of the runs", in_key=False)
    values: str = option("{}", "what the runs change in those of the real model, as JSON", in_key=False)

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        require_types(self)
        for name in ("n_sequences", "n_features"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be 1 or more")


def configure(values: Mapping[str, Any], profile: str = "published") -> LookingConfig:
    """Return the config for a seed; it has one size."""
    looked = _looked_at(values.get("seed", 0), values.get("values", "{}"))
    identity = _data_id(looked["baseline"])
    keys = [run_key("gpt2", config, identity) for config in looked.values()]
    return build(LookingConfig, {**values, "runs": keys})


def _data_id(config: gpt2.GPT2Config) -> str:
    return smollm2.DATA_ID if config.model == SMOLLM2 else gpt2.data_id(config)


def _looked_at(seed: int, values: str) -> dict[str, gpt2.GPT2Config]:
    return {name: smollm2.config_of(name, seed, json.loads(values)) for name in SHOWN}


def run(config: LookingConfig, store: Store | None = None, *, fresh: bool = False, progress: bool = True) -> Run:
    """Return the run of a config, from the store or computed; runs that are missing, or have no weights, are made first.

    Its results hold the `page`; its arrays, for each of `SHOWN`, the features' token `auc` (NaN without a score) and the `cosine`
    with the nearest feature of the run's other SAEs.
    """
    looked = _looked_at(config.seed, config.values)
    base = looked["baseline"]
    identity = _data_id(base)

    def compute(folder: Path) -> Run:
        whole = Store(cache_folder(), renew=True)  # the archive's runs have no weights
        made = {name: gpt2.run(one, whole, progress=progress) for name, one in looked.items()}
        place, skip = base.n_saes // 2, int(base.bos)
        found = gpt2.open_text(base)
        batches = found.held_out.take(np.arange(config.n_sequences)).split(16)
        text = token_score.read(found.model, base.hook, batches, skip=skip)
        arrays, shown = {}, []
        for name, title in SHOWN.items():
            stack = stack_of(base, made[name])
            rows = stack.dictionary.detach()
            others = torch.cat([rows[:place], rows[place + 1 :]]).flatten(0, 1)
            arrays[f"auc {name}"] = token_score.scores(stack, place, text)
            arrays[f"cosine {name}"] = best_match(rows[place], others).cosine.numpy()
            shown.append(feature_page.Shown(title, stack, place, base.hook, made[name].arrays["rate"][place]))
        page = feature_page.light(shown, found.model, batches, n_features=config.n_features, skip=skip)
        results = {"page": page, "samples": made["baseline"].results["samples"]}
        return Run("gpt2-features", describe_config(config), identity, results, arrays=arrays)

    return (store or Store()).compute("gpt2-features", config, identity, compute, fresh=fresh)


asked: Asked = archived(
    lambda: [Planned("gpt2-features", configure({"seed": seed}), smollm2.DATA_ID) for seed in range(ARCHIVED_SEEDS)]
)
"""The runs, one a seed; of the archive alone."""
collect: Collect[list[Run]] = collector(asked)
"""What `asked` plans, loaded from the archive."""


def shared(runs: Sequence[Run]) -> pd.DataFrame:
    """Return how well tokens predict features that the run's other SAEs share, and those that none does; means over seeds."""
    rows = []
    for name, title in SHOWN.items():
        for kind in ("shared", "unshared"):
            scores = [_scores(one, name, kind) for one in runs]
            rows.append({"SAE": title, "features": kind} | token_score.row(scores))
    return pd.DataFrame(rows)


def values(runs: Sequence[Run]) -> dict[str, float]:
    """Return the numbers that the prose names: of each SAE and kind of features how many have a score, and its median."""
    found: dict[str, float] = {"smollm2_looked": len(runs), "smollm2_shared_from": token_score.SHARED} if runs else {}
    for name in SHOWN if runs else ():
        for kind in ("shared", "unshared"):
            scores = [_scores(one, name, kind) for one in runs]
            found[f"smollm2_{kind}_{name}"] = float(np.mean([len(one) for one in scores]))
            found[f"smollm2_auc_{kind}_{name}"] = float(np.mean([np.median(one) for one in scores]))
    return found


def _scores(run: Run, name: str, kind: str) -> np.ndarray:
    mine = (run.arrays[f"cosine {name}"] >= token_score.SHARED) == (kind == "shared")
    return token_score.known(run.arrays[f"auc {name}"][mine])
