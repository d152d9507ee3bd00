"""End-to-end SAEs with fewer features: whether what they gain and how stable they are hangs on their number (D1, D5)."""

from collections.abc import Mapping
from typing import Any, Generic, NamedTuple

import numpy as np

from mfrbook.chapters.end_to_end import likeness
from mfrbook.chapters.end_to_end import plan as end_to_end
from mfrbook.chapters.end_to_end.runs import EndToEndConfig
from mfrbook.experiments.planned import Collect, Planned, R, collector
from mfrbook.store.runs import Run

NARROWER = 4


class Narrower(NamedTuple, Generic[R]):
    """The section's runs with fewer features, by condition for each seed, and their comparison."""

    seeds: list[dict[str, R]]
    compared: R


def asked(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> Narrower[Planned]:
    """Return the section's runs with a quarter of its features, but no fewer than `k`, or its default; and their comparison."""
    wide = end_to_end.conditions(profile, values)["e2e"]
    n_features = max(wide.n_features // NARROWER, int(np.max(wide.k)), EndToEndConfig.k)
    chosen = {**values, "n_features": n_features}
    return Narrower(end_to_end.asked(profile, n_seeds, chosen), likeness.compared(profile, n_seeds, chosen))


collect: Collect[Narrower[Run]] = collector(asked)
"""What `asked` plans, loaded or computed."""
