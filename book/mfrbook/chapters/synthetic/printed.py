"""The method as printed, at the paper's size: the penalty beside the squared norm, inactivity checked at every step.

Its baseline is that of `first-edition`: without a penalty, the sum and the mean differ by a factor that Adam's step is free of.
Where no start ever crosses the threshold, the one run with both parts is the penalty alone as well, and re-initialisation alone
the baseline.
"""

from collections.abc import Mapping
from typing import Any

from mfrbook.chapters.synthetic import readings
from mfrbook.chapters.synthetic import runs as synthetic
from mfrbook.experiments.conditions import condition_fields
from mfrbook.experiments.planned import Collect, Planned, collector, given, seeds
from mfrbook.store.runs import Run

PRESET = "as-printed"


def asked(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> list[dict[str, Planned]]:
    """Return, for each seed, the baseline and the run with penalty and re-initialisation."""
    own = given(values, readings.SHARED)
    both = condition_fields("mfr", synthetic.ALPHA[PRESET], synthetic.REINIT[PRESET])
    pairs = [
        {
            "baseline": synthetic.configure({**own, "seed": seed}, profile),
            "mfr": synthetic.configure({**own, **both, "seed": seed}, profile, PRESET),
        }
        for seed in seeds(n_seeds, synthetic.PROFILES[profile])
    ]
    return [{name: Planned("synthetic", config, synthetic.DATA_ID) for name, config in pair.items()} for pair in pairs]


collect: Collect[list[dict[str, Run]]] = collector(asked)
"""What `asked` plans, loaded or computed."""
