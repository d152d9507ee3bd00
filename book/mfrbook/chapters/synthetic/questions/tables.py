"""Tables for the questions that need more runs of the synthetic experiment: S4, Q1, Q5, Q9, Q10, Q11, Q12."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from mfrbook.chapters.synthetic import runs as synthetic
from mfrbook.chapters.synthetic.questions import coverage, groups
from mfrbook.chapters.synthetic.questions import runs as questions
from mfrbook.chapters.synthetic.reading_tables import METRICS
from mfrbook.drawing.tables import Interval, with_interval
from mfrbook.store.runs import Run

GROUP_METRICS = {
    "mmcs_within": "MMCS within groups",
    "mmcs_between": "MMCS between groups",
    "mmcs_input": "MMCS with true features",
    "recovered": "true features recovered",
    "any": "true features recovered by a group",
    "within_true": "of what a group shares, true",
    "between_true": "of what groups share, true",
    "best_mmcs_input": "MMCS with true features, SAE of least loss",
    "unique_input": "unique matches with true features",
    "fvu": "FVU",
}
CURES = METRICS | {"cluster_dead": "of the cluster, dead", "r": "r"}
TOGETHER = {
    "each": "true features found by one SAE",
    "any": "by any of them",
    "every": "by every one",
    "shared": "of an SAE's features, shared",
    "true": "true, of all",
    "shared_true": "of the shared, true",
}


def agreement(rows: Sequence[groups.Row]) -> pd.DataFrame:
    """Q1: one row a run; `reading` and `choice` as `mfrbook.drawing.figures.effects` asks."""
    found = [row.run.results | found_by_groups(row.run) for row in rows]
    return pd.DataFrame(
        {"reading": "Q1", "choice": row.condition, "seed": row.seed}
        | {name: one[name] for name in (*GROUP_METRICS, "mmcs_chance")}
        for row, one in zip(rows, found, strict=True)
    )


def found_by_groups(run: Run) -> dict[str, float]:
    """Q11 and Q12 of groups apart: what the SAEs of a group find together, and what each kind of agreement is worth.

    Returns
    -------
    dict
        `any`: share of the input's features that any SAE of a group recovers, mean over groups; `within_true`,
        `between_true`: of the features whose nearest in the other SAEs of their group, or in those of the others, have a
        mean cosine of `RECOVERED` or more, the share that are the input's (as `shared` counts).
    """
    any_of = [coverage.recovered_together(torch.from_numpy(group))["any"] for group in run.arrays["best"]]
    true = {f"{where}_true": shared(run, f"{where}_max")["shared_true"] for where in ("within", "between")}
    return {"any": float(np.mean(any_of)), **true}


def agreement_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Q1: mean and 95 % interval over seeds of each condition, and the chance level of the dictionaries' size."""
    return pd.DataFrame(
        {"condition": choice}
        | {label: _interval(part[name]) for name, label in GROUP_METRICS.items()}
        | {"chance, within and between": part["mmcs_chance"].mean()}
        for choice, part in table.groupby("choice", sort=False)
    )


def by_number(rows: Sequence[questions.Row]) -> pd.DataFrame:
    """Q5: one row a run, with the cost of the penalty in multiply-adds, relative to a step without it."""
    return pd.DataFrame(
        {
            "condition": row.choice,
            "seed": row.seed,
            "SAEs": row.n_saes,
            **{name: float(np.mean(row.run.results[name])) for name in METRICS},
            "mmcs_input": float(np.mean(row.run.results["mmcs_input"])),
            "cost": penalty_cost(row.run.config) if row.run.config["alpha"] else 0.0,
        }
        for row in rows
        if row.question == questions.SAES
    )


def penalty_cost(config: dict[str, Any]) -> float:
    r"""Return the multiply-adds of the penalty's cosines over those of the encoders, in one step.

    .. math:: \frac{\binom{s}{2} f^2 d}{s \, n \, d f} = \frac{(s - 1) f}{2 n}

    for s SAEs of f features and n samples a batch (Equation 3 compares every pair): it grows with the number of SAEs.
    """
    return (config["n_saes"] - 1) * config["n_features"] / (2 * config["batch_size"])


def by_number_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Q5: for each number of SAEs and condition, mean and 95 % interval over seeds."""
    return pd.DataFrame(
        {"SAEs": n_saes, "condition": condition, "penalty's products, share of the encoders'": part["cost"].mean()}
        | {label: with_interval(part[name]) for name, label in METRICS.items()}
        for (n_saes, condition), part in table.groupby(["SAEs", "condition"], sort=False)
    )


def cures(rows: Sequence[questions.Row], question: str = questions.CENTRED) -> pd.DataFrame:
    """Q9, or Q10's switches: one row a run; `reading` and `choice` as `mfrbook.drawing.figures.effects` asks."""
    return pd.DataFrame(
        {"reading": "Q9" if question == questions.CENTRED else "Q10", "choice": row.choice, "seed": row.seed}
        | {"samples": f"{row.run.results['samples']:,}"}
        | {name: float(np.mean(row.run.results[name])) for name in METRICS}
        | {"cluster_dead": float(np.mean(row.run.results["cluster_dead"])), "r": row.run.results["r"]}
        for row in rows
        if row.question == question
    )


def restarts(rows: Sequence[questions.Row]) -> dict[str, float]:
    """Return, of the SAE that the released code's statistic restarted most, in Q9's runs: how often, the last step, the steps, and what it found."""
    runs = [row.run for row in rows if row.question == questions.CENTRED and row.choice == questions.CUBE]
    every = [
        (run, sae, [step for step, one in run.results["events"] if one == sae])
        for run in runs
        for sae in range(run.config["n_saes"])
    ]
    run, sae, steps = max(every, key=lambda one: len(one[2]))
    if not steps:
        return {}
    found = {"restarts": len(steps), "last_restart": steps[-1], "of_steps": run.config["steps"]}
    return found | {"restarted_recovered": run.results["recovered"][sae]}


def by_samples(*tables: pd.DataFrame) -> pd.DataFrame:
    """Q9's and Q10's runs in one table: every choice at every number of samples that there is."""
    every = pd.concat(tables).drop_duplicates(["choice", "samples", "seed"])
    return every.sort_values(
        "choice", key=lambda choice: choice.map([*questions.SWITCHED, questions.CUBE].index), kind="stable"
    )


def together(
    rows: Sequence[questions.Row], covered: Sequence[questions.Row], question: str = questions.CENTRED
) -> pd.DataFrame:
    """Q11, Q12: one row a run, what its SAEs find (from `mfrbook.chapters.synthetic.questions.coverage`) and what they share."""
    runs = {(row.choice, row.seed): row.run for row in rows if row.question == question}
    return pd.DataFrame(
        found(row.choice, runs[row.choice, row.seed], row.run) for row in covered if row.question == question
    )


def found(choice: str, run: Run, covered: Run) -> dict[str, str | float]:
    """Return such a row of a run and of what it finds."""
    row = {"choice": choice, "seed": run.config["seed"], "samples": f"{run.results['samples']:,}"}
    return row | {name: float(np.mean(covered.results[name])) for name in ("each", "any", "every")} | shared(run)


def shared(run: Run, elsewhere: str = "across_max") -> dict[str, float]:
    """Q12: what agreement of a run's SAEs is worth as evidence; `elsewhere` names the array of cosines with the others.

    Alike, to each other or to the input's, are features from the cosine on that `mfrbook.chapters.synthetic.runs.RECOVERED` asks
    for, with the nearest one.

    Returns
    -------
    dict
        `shared`: share of the features that have one alike in the other SAEs; `true`: share that have one alike in the
        input; `shared_true`: the same of those that are shared, NaN if none is.
    """
    alike, true = (run.arrays[name] >= synthetic.RECOVERED for name in (elsewhere, "input_max"))
    of_shared = float(true[alike].mean()) if alike.any() else float("nan")
    return {"shared": float(alike.mean()), "true": float(true.mean()), "shared_true": of_shared}


def cures_summary(table: pd.DataFrame, labels: Mapping[str, str] = CURES) -> pd.DataFrame:
    """Q9 to Q12: mean and 95 % interval over seeds of the metrics labelled."""
    return pd.DataFrame(
        {"choice": choice, "samples": samples, "seeds": len(part)}
        | {shown: _interval(part[name]) for name, shown in labels.items()}
        for (choice, samples), part in table.groupby(["choice", "samples"], sort=False)
    )


def _interval(values: pd.Series) -> Interval | str:
    """Return mean and interval of the values that there are."""
    return with_interval(values.dropna()) if values.notna().any() else "–"


def seen(runs: Sequence[Run]) -> str:
    """Say in a caption how many samples a run saw, the first of these."""
    samples = runs[0].results["samples"]
    return f"{samples:,} samples a run, {100 * samples / synthetic.PAPER_SAMPLES:.3g} % of the paper's."


def baselines(rows: Sequence[questions.Row], question: str = questions.MANY) -> list[dict[str, Any]]:
    """Return a question's baseline runs as `mfrbook.chapters.synthetic.figures.early_against_cluster` takes them."""
    return [{"baseline": row.run} for row in rows if (row.question, row.choice) == (question, "baseline")]
