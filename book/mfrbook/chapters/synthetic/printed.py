"""The method as printed, at the paper's size: the penalty beside the squared norm, inactivity checked at every step.

Its baseline is that of `first-edition`: without a penalty, the sum and the mean differ by a factor that Adam's step is free of.
Where no start ever crosses the threshold, the one run with both parts is the penalty alone as well, and re-initialisation alone
the baseline.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from mfrbook.chapters.synthetic import runs as synthetic
from mfrbook.experiments.planned import Planned, drop_unset, seeds
from mfrbook.store.runs import Run
from mfrbook.store.store import Store, complete

PRESET = "as-printed"


def collect(
    profile: str, n_seeds: int | None = None, values: Mapping[str, Any] | None = None, *, trains: bool | None = None
) -> list[dict[str, Run]]:
    """Return, for each seed, the baseline and the run with penalty and re-initialisation."""
    store = Store(trains=profile != "published" if trains is None else trains)
    chosen = _configs(profile, n_seeds, values or {})
    runs = complete(partial(synthetic.run, config, store) for pair in chosen for config in pair)
    return [{"baseline": plain, "mfr": both} for plain, both in zip(runs[::2], runs[1::2], strict=True)]


def plan(values: Mapping[str, Any]) -> list[Planned]:
    """Return the runs that `collect` asks for."""
    pairs = _configs(values["profile"], values.get("n_seeds"), values)
    return [Planned("synthetic", config, synthetic.DATA_ID) for pair in pairs for config in pair]


def _configs(
    profile: str, n_seeds: int | None, values: Mapping[str, Any]
) -> list[tuple[synthetic.SyntheticConfig, synthetic.SyntheticConfig]]:
    own = drop_unset({name: values.get(name) for name in ("steps", "batch_size")})
    both = {"alpha": synthetic.ALPHA[PRESET], "reinit": synthetic.REINIT[PRESET]}
    return [
        (
            synthetic.configure({**own, "seed": seed}, profile),
            synthetic.configure({**own, **both, "seed": seed}, profile, PRESET),
        )
        for seed in seeds(n_seeds, synthetic.PROFILES[profile])
    ]
