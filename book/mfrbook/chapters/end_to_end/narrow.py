"""End-to-end SAEs with fewer features: whether what they gain and how stable they are hangs on their number (D1, D5)."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from mfrbook.chapters.end_to_end import likeness
from mfrbook.chapters.end_to_end import plan as end_to_end
from mfrbook.chapters.end_to_end.runs import EndToEndConfig
from mfrbook.experiments.planned import Planned
from mfrbook.store.runs import Run
from mfrbook.store.store import complete

NARROWER = 4


class Narrower(NamedTuple):
    """The section's runs with fewer features, by condition for each seed, and their comparison."""

    seeds: list[dict[str, Run]]
    compared: Run


def narrowed(profile: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section's parameters with a quarter of its features, but no fewer than `k`, or its default."""
    names = {field.name for field in fields(EndToEndConfig)} | {"local_sparsity"}
    wide = end_to_end.conditions(profile, {name: value for name, value in values.items() if name in names})["e2e"]
    return {**values, "n_features": max(wide.n_features // NARROWER, int(np.max(wide.k)), EndToEndConfig.k)}


def collect(
    profile: str, n_seeds: int | None = None, values: Mapping[str, Any] | None = None, *, trains: bool | None = None
) -> Narrower:
    """Return the narrower runs and their comparison."""
    chosen = narrowed(profile, values or {})
    parts: list[Callable[[], Any]] = [
        partial(one.collect, profile, n_seeds, chosen, trains=trains) for one in (end_to_end, likeness)
    ]
    return Narrower(*complete(parts))


def plan(values: Mapping[str, Any]) -> list[Planned]:
    """Return the runs that the chapter's notebook asks for: those of its own size and their comparison, and the narrower ones."""
    return [*likeness.plan(values), *likeness.plan(narrowed(values["profile"], values))]
