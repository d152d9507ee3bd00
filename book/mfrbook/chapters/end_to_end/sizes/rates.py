"""Which learning rate suits which objective: its front lies lowest on sequences of training, which no result is measured on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mfrbook.chapters.end_to_end import pareto, plan, runs
from mfrbook.experiments.planned import Asked, Collect, Planned, archived, collector
from mfrbook.store.runs import Run
from mfrlib.config import unknown_name

LONGER = 4
"""How many times the tokens of the chapter's other runs."""
RATES: Mapping[int, tuple[float, ...]] = {1: (0.003, 0.01, 0.03, 0.1), LONGER: (0.01, 0.03)}
"""Tried for each objective with its whole front, by the number of times the tokens; the first is that of the chapter's other runs."""
CHOSEN: Mapping[int, Mapping[str, float]] = {
    1: {"local": 0.03, "e2e": 0.03, "downstream": 0.03},
    LONGER: {"local": 0.03, "e2e": 0.03, "downstream": 0.03},
}
"""By objective, the first rate over which the next saves no more than `TIE`."""
TIE = 0.05
"""Share of the rise of the cross-entropy, at the same L0, up to which two rates are as good as each other."""


def config_of(objective: str, rate: float, seed: int = 0, times: int = 1) -> runs.EndToEndConfig:
    """Return the config of an objective at a learning rate: as the chapter's runs, measured on sequences of training too.

    With so many times the steps, the warm-up is so many times as long, and there is text for all of them: no token is seen twice.
    """
    if objective not in CHOSEN[1]:
        raise unknown_name(objective, CHOSEN[1], "objective")
    front = plan.SPARSITIES["published"][objective]
    own = {"objective": objective, "sparsity": front, "n_saes": len(front), "learning_rate": rate, "n_seen": 100}
    config = runs.configure({**own, "seed": seed}, "published")
    if times == 1:
        return config
    steps, warmup = times * config.steps, times * config.learning_rate_warmup
    return replace(config, steps=steps, learning_rate_warmup=warmup, n_sequences=steps * config.batch_size)


asked: Asked = archived(
    lambda: {
        times: [{name: _planned(config_of(name, rate, times=times)) for name in CHOSEN[1]} for rate in rates]
        for times, rates in RATES.items()
    },
    dict,
)
"""The trials: by times the tokens, for each rate, those of each objective; of the archive alone."""
collect: Collect[dict[int, list[dict[str, Run]]]] = collector(asked)
"""What `asked` plans, loaded from the archive."""


def suited(times: int, n_seeds: int) -> list[dict[str, Planned]]:
    """Return, for each seed, the run of each objective at its learning rate, with so many times the tokens."""
    return [
        {name: _planned(config_of(name, rate, seed, times)) for name, rate in CHOSEN[times].items()}
        for seed in range(n_seeds)
    ]


def _planned(config: runs.EndToEndConfig) -> Planned:
    return Planned("end-to-end", config, runs.data_id(config))


def saved(before: Run, after: Run) -> float:
    """Return the share of one front's rise of the cross-entropy that another saves at the same L0, on sequences of training."""
    both = {"local": before, "e2e": after}
    seen = {name: replace(run, results=run.results | run.results["seen"]) for name, run in both.items()}
    [share] = pareto.ce_at_equal_l0(pareto.points([seen]), "e2e", share=True)
    return share


def best(trials: Sequence[Mapping[str, Run]]) -> dict[str, float]:
    """Return by objective the rate of the first trial over which the next saves no more than `TIE`."""
    found = {}
    for name in trials[0]:
        place = 0
        while place + 1 < len(trials) and saved(trials[place][name], trials[place + 1][name]) > TIE:
            place += 1
        found[name] = trials[place][name].config["learning_rate"]
    return found
