"""The end-to-end chapter's tables, and the numbers that its prose names."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mfrbook.chapters.end_to_end import pareto, stability
from mfrbook.chapters.end_to_end.runs import PAPER_SAMPLES
from mfrbook.drawing.statistics import interval, pseudo_values
from mfrbook.drawing.style import STYLE
from mfrbook.drawing.tables import with_interval
from mfrbook.store.runs import Run
from mfrlib.language_models.features import Passage, describe, least_alike
from mfrlib.language_models.language_model import LanguageModel
from mfrlib.method.similarity import chance_level
from mfrlib.training.loop import Stack

Seeds = Sequence[Mapping[str, Run]]
COLUMNS = ("L0", "alive", "CE increase", "KL", "explained variance", "explained variance, later")
LIKENESS = {"MMCS": False, "matched cosine": True}
ACROSS = (
    ("local", "local"), ("e2e", "e2e"), ("downstream", "downstream"), ("e2e-mfr", "e2e-mfr"),
    ("e2e", "local"), ("downstream", "local"), ("e2e", "downstream"),
)  # fmt: skip
OFTEN, SELDOM = 0.1, 0.001  # share of tokens: features between the two are looked at as examples


def name(condition: str) -> str:
    """Return what a condition is called."""
    return STYLE[condition][0]


def scale(seeds: Seeds) -> pd.DataFrame:
    """Say what was trained on what: model, place, sizes."""
    run = seeds[0]["e2e"]
    config, results = run.config, run.results
    row = {
        "data": run.data_id, "hook": config["hook"], "features per SAE": config["n_features"], "steps": config["steps"],
        "tokens seen": results["samples"], "epochs": results["epochs"], "seeds": len(seeds), "CE of the model": results["ce"],
        "held-out sequences": config["n_held_out"], "for alive features": config["n_usage"],
    }  # fmt: skip
    return pd.DataFrame([row])


def front(points: pd.DataFrame) -> pd.DataFrame:
    """Return mean and 95 % interval over seeds of every SAE of the stacks."""
    rows = []
    for (condition, _), part in points.groupby(["condition", "sae"], sort=False):
        row = {"SAE": name(str(condition)), "λ or k": f"{part['set to'].iloc[0]:g}"}
        rows.append(row | {column: with_interval(part[column]) for column in COLUMNS})
    return pd.DataFrame(rows)


def comparison(points: pd.DataFrame) -> pd.DataFrame:
    """Return what each objective gains over the local front, and how many seeds have an SAE within its reach."""
    rows = []
    for treated in ("e2e", "downstream"):
        for label, values in _gains(points, treated).items():
            reached = int(np.isfinite(values).sum())
            rows.append({"SAE": name(treated), "gain over local": label, "value": _known(values), "seeds": reached})
    return pd.DataFrame(rows)


def _known(values: Sequence[float]) -> str:
    known = [value for value in values if np.isfinite(value)]
    return with_interval(known) if known else "not known, beyond the local front"


def _gains(points: pd.DataFrame, treated: str) -> dict[str, list[float]]:
    return {
        "CE increase less at equal L0, nats": pareto.ce_at_equal_l0(points, treated),
        "L0 less at equal CE, share": pareto.reduction_at_equal_ce(points, "L0", treated),
        "alive features fewer at equal CE, share": pareto.reduction_at_equal_ce(points, "alive", treated),
    }


def cost_of_penalty(points: pd.DataFrame, treated: str = "e2e-mfr", plain: str = "e2e") -> pd.DataFrame:
    """Return what the penalty changes, paired by seed: each SAE of its stack minus the same SAE without it."""
    both = points[points["condition"].isin((treated, plain))]
    wide = both.pivot(index=["seed", "sae"], columns="condition")
    rows = []
    for sae, part in wide.groupby(level="sae"):
        setting = f"{part['set to', plain].iloc[0]:g}"
        differences = {column: with_interval(part[column, treated] - part[column, plain]) for column in COLUMNS}
        rows.append({"SAE of the stack": sae, "λ or k": setting} | differences)
    return pd.DataFrame(rows)


def likeness(seeds: Seeds) -> pd.DataFrame:
    """Return a row per comparison of alive features: MMCS and matched cosine with their 95 % intervals, and chance.

    Dictionaries of different seeds are compared for SAEs that raise the CE by about as much (`stability.comparable`);
    those of one stack as they are, whatever their sparsity.
    """
    picked = stability.comparable(seeds)
    rows: list[dict[str, Any]] = []
    for first, second in ACROSS:
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
    for condition in ("e2e", "e2e-mfr"):
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


def likeness_as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Return that table with intervals written out."""
    shown = table[["features of", "compared"]].copy()
    for label in LIKENESS:
        parts = zip(*(table[f"{label}{end}"] for end in ("", " low", " high")), strict=True)
        shown[label] = [f"{middle:.3f} [{low:.3f}, {high:.3f}]" for middle, low, high in parts]
        shown[f"{label}, chance"] = [f"{value:.3f}" for value in table[f"{label} chance"]]
    return shown


def only_in(
    seeds: Seeds,
    mine: str,
    other: str,
    model: LanguageModel,
    stack: Stack,
    batches: Iterable[Tensor],
    *,
    skip: int,
    n: int = 6,
) -> pd.DataFrame:
    """Return features of one objective, first seed, that are least like any alive feature of another, in any seed, with chance."""
    picked = stability.comparable(seeds)
    run, sae = seeds[0][mine], picked[mine]
    others = torch.cat([stability.dictionary(runs[other], picked[other]) for runs in seeds])
    rates = torch.as_tensor(run.arrays["rate"][sae])
    chosen = least_alike(stack.dictionary[sae].detach().cpu(), others, rates, n, SELDOM, OFTEN)
    numbers = [number for number, _ in chosen]
    chance = chance_level(len(numbers), *others.shape)
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


def _bracketed(passage: Passage, around: int = 6) -> str:
    start = max(0, passage.peak - around)
    before, after = passage.tokens[start : passage.peak], passage.tokens[passage.peak + 1 : passage.peak + 3]
    return "".join(before) + "[" + passage.tokens[passage.peak] + "]" + "".join(after)


def values(seeds: Seeds, points: pd.DataFrame, alike: pd.DataFrame) -> dict[str, float | str]:
    """Return the numbers that the prose names: gains over the local front, as text, and likenesses with chance."""
    run = seeds[0]["e2e"]
    found: dict[str, float | str] = {"seeds": len(seeds), "ce": run.results["ce"], "model": run.data_id.split(":")[1]}
    found |= {"tokens": run.results["samples"], "tokens_share": run.results["samples"] / PAPER_SAMPLES}
    for treated in ("e2e", "downstream"):
        for key, gains in zip(("ce", "l0", "alive"), _gains(points, treated).values(), strict=True):
            found[f"{treated}_{key}"] = _known(gains)
    for _, row in alike.iterrows():
        key = f"{row['features of']} {row['compared']}".lower().replace("end-to-end + mutual penalty", "mfr")
        key = key.replace("end-to-end + downstream", "downstream").replace("end-to-end", "e2e").replace(" ", "_")
        found |= {f"{key}": row["MMCS"], f"{key}_chance": row["MMCS chance"]}
    return found
