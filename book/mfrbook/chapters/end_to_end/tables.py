"""The end-to-end chapter's tables, and the numbers that its prose names."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mfrbook.chapters.end_to_end import pareto
from mfrbook.chapters.end_to_end.comparison import LIKENESS, name
from mfrbook.chapters.end_to_end.runs import PAPER_SAMPLES
from mfrbook.chapters.end_to_end.sizes.rates import saved
from mfrbook.chapters.end_to_end.stability import comparable
from mfrbook.drawing.tables import Interval, with_interval
from mfrbook.experiments.conditions import Seeds
from mfrbook.store.runs import Run

COLUMNS = ("L0", "alive", "CE increase", "KL", "explained variance", "explained variance, later")


def scale(seeds: Seeds) -> pd.DataFrame:
    """Say what was trained on what: model, place, sizes."""
    run = seeds[0]["e2e"]
    config, results = run.config, run.results
    row = {
        "data": run.data_id, "hook": config["hook"], "features per SAE": config["n_features"], "steps": config["steps"],
        "tokens seen": results["samples"], "epochs": results["epochs"], "seeds": len(seeds), "CE of the model": results["ce"],
        "held-out sequences": config["n_held_out"], "sequences for counting alive features": config["n_usage"],
    }  # fmt: skip
    return pd.DataFrame([row])


def costs(seeds: Seeds) -> dict[str, str]:
    """Return what an SAE costs, as columns of `points` and what an axis calls them."""
    return {
        "L0": "L0, active features per token",
        "alive": f"alive features, of {seeds[0]['e2e'].config['n_features']:,}",
    }


def tokens(seeds: Seeds) -> str:
    """Say how many tokens each run saw."""
    return f"{seeds[0]['e2e'].results['samples'] / 1e6:.1f} M tokens"


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


def with_more_tokens(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Return what each objective gains over the local front before and after there were more tokens, and the difference by seed."""
    rows = []
    for treated in ("e2e", "downstream"):
        for (label, old), new in zip(_gains(before, treated).items(), _gains(after, treated).values(), strict=True):
            difference = [b - a for a, b in zip(old, new, strict=True)]
            row = {"SAE": name(treated), "gain over local": label, "before": _known(old), "after": _known(new)}
            rows.append(row | {"difference": _known(difference)})
    return pd.DataFrame(rows)


def rates(trials: Mapping[int, Seeds]) -> pd.DataFrame:
    """Return for each number of tokens and learning rate what it saves of the rise of the cross-entropy with the rate before, by objective."""
    rows = []
    for several in trials.values():
        for before, runs in zip((None, *several), several, strict=False):
            run = runs["local"]
            row = {"tokens": run.results["samples"], "learning rate": f"{run.config['learning_rate']:g}"}
            shares = {
                name(one): f"{100 * saved(before[one], each):+.0f} %" if before else "–" for one, each in runs.items()
            }
            rows.append(row | shares)
    return pd.DataFrame(rows)


def _known(values: Sequence[float]) -> Interval | str:
    known = [value for value in values if np.isfinite(value)]
    return with_interval(known) if known else "not known, beyond the local front"


def _gains(points: pd.DataFrame, treated: str) -> dict[str, list[float]]:
    return {
        "CE increase less at equal L0, nats": pareto.ce_at_equal_l0(points, treated),
        "CE increase less at equal L0, share": pareto.ce_at_equal_l0(points, treated, share=True),
        "L0 less at equal CE, share": pareto.reduction_at_equal_ce(points, "L0", treated),
        "alive features fewer at equal CE, share": pareto.reduction_at_equal_ce(points, "alive", treated),
    }


def cost_of_penalty(points: pd.DataFrame) -> pd.DataFrame:
    """Return what the penalty changes, paired by seed: each SAE of its stack minus the same SAE without it."""
    treated, plain = "e2e-mfr", "e2e"
    both = points[points["condition"].isin((treated, plain))]
    wide = both.pivot(index=["seed", "sae"], columns="condition")
    rows = []
    for sae, part in wide.groupby(level="sae"):
        setting = f"{part['set to', plain].iloc[0]:g}"
        differences = {column: with_interval(part[column, treated] - part[column, plain]) for column in COLUMNS}
        rows.append({"SAE of the stack": sae, "λ or k": setting} | differences)
    return pd.DataFrame(rows)


def with_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """Return that table with each interval in one cell."""
    shown = table[["features of", "compared"]].copy()
    for label in LIKENESS:
        parts = zip(*(table[f"{label}{end}"] for end in ("", " low", " high")), strict=True)
        shown[label] = [Interval(*part) for part in parts]
        shown[f"{label}, chance"] = table[f"{label} chance"]
    return shown


def local_rates(runs: Sequence[Run]) -> pd.DataFrame:
    """Return every local SAE of runs that differ in their learning rate."""
    shown = []
    for run in runs:
        table = pareto.points([{"local": run}])[["set to", "L0", "alive", "CE increase"]].rename(
            columns={"set to": "λ"}
        )
        table.insert(0, "learning rate", run.config["learning_rate"])
        shown.append(table)
    return pd.concat(shown, ignore_index=True)


def least_saved(runs: Sequence[Run], others: Mapping[str, Run]) -> float:
    """Return the smallest share of the rise of the CE that end-to-end SAEs save at equal L0, over local runs at several learning rates."""
    fronts = (pareto.points([{**others, "local": run}]) for run in runs)
    return min(pareto.ce_at_equal_l0(front, "e2e", share=True)[0] for front in fronts)


def stabilities(compared: Mapping[str, Run]) -> pd.DataFrame:
    """Return, for each of several sets of runs by name, what the SAEs of each objective have in common across seeds."""
    shown = []
    for label, run in compared.items():
        table = pd.DataFrame(run.results["likeness"])
        own = table[(table["compared"] == "across seeds") & ~table["features of"].str.contains(" and ")]
        named = with_intervals(own).drop(columns="compared")
        named.insert(0, "runs", label)
        shown.append(named)
    return pd.concat(shown, ignore_index=True)


def values(seeds: Seeds, points: pd.DataFrame, alike: pd.DataFrame) -> dict[str, float | str]:
    """Return the numbers that the prose names: gains over the local front, as text, and likenesses with chance."""
    return _numbers(seeds, points) | _likenesses(alike)


def _likenesses(alike: pd.DataFrame) -> dict[str, float | str]:
    found: dict[str, float | str] = {}
    for _, row in alike.iterrows():
        key = f"{row['features of']} {row['compared']}".lower().replace("end-to-end + mutual penalty", "mfr")
        key = key.replace("end-to-end + downstream", "downstream").replace("end-to-end", "e2e").replace(" ", "_")
        found |= {f"{key}": row["MMCS"], f"{key}_chance": row["MMCS chance"]}
    return found


def alive_compared(prefix: str, seeds: Seeds) -> dict[str, float]:
    """Return how many features are alive, mean over seeds, in the SAEs of each objective that are compared across seeds."""
    picked = comparable(seeds)
    return {
        f"{prefix}_alive_{name}": float(np.mean([runs[name].results["alive"][place] for runs in seeds]))
        for name, place in picked.items()
    }


def stability_values(compared: Mapping[str, Run]) -> dict[str, float | str]:
    """Return the likenesses of several sets of runs, with chance: each name begins with that of the set."""
    return {
        f"{label}_{name}": value
        for label, run in compared.items()
        for name, value in _likenesses(pd.DataFrame(run.results["likeness"])).items()
    }


def named_values(prefix: str, seeds: Seeds, points: pd.DataFrame) -> dict[str, float | str]:
    """Return the numbers of other runs: each name begins with `prefix`."""
    return {f"{prefix}_{name}": value for name, value in _numbers(seeds, points).items()}


def same_l0_values(points: pd.DataFrame) -> dict[str, float]:
    """Return L0, rise of the CE and alive features of the one SAE of each objective, means over seeds."""
    means = points.groupby("condition")[["L0", "CE increase", "alive"]].mean()
    return {
        f"same_l0_{key}_{name}": float(means.loc[name, column])
        for name in means.index
        for key, column in (("l0", "L0"), ("ce", "CE increase"), ("alive", "alive"))
    }


def real_values(seeds: Seeds, points: pd.DataFrame, alike: pd.DataFrame) -> dict[str, float | str]:
    """Return those numbers of SmolLM2: each name begins with `real`."""
    return {f"real_{name}": value for name, value in (_numbers(seeds, points) | _likenesses(alike)).items()}


def _numbers(seeds: Seeds, points: pd.DataFrame) -> dict[str, float | str]:
    run = seeds[0]["e2e"]
    found: dict[str, float | str] = {"seeds": len(seeds), "ce": run.results["ce"], "model": run.data_id.split(":")[1]}
    found |= {"tokens": run.results["samples"], "tokens_share": run.results["samples"] / PAPER_SAMPLES}
    found |= {"features": run.config["n_features"], "rate": run.config["learning_rate"]}
    for treated in ("e2e", "downstream"):
        for key, gains in zip(("ce", "ce_share", "l0", "alive"), _gains(points, treated).values(), strict=True):
            found[f"{treated}_{key}"] = str(_known(gains))
    return found
