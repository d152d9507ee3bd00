"""What the warm-up does while it lasts (G5): the controls' first steps, with enough of them recorded."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mfrbook.chapters.gpt2 import controls
from mfrbook.chapters.gpt2 import runs as gpt2
from mfrbook.experiments.planned import Collect, Planned, collector, given, seeds
from mfrbook.store.runs import Run

RECORDS = 20
"""Steps of the warm-up that are recorded."""
NAMES = ("penalty", "no warm-up", "large α", "large α, no warm-up")


def asked(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> list[dict[str, Planned]]:
    """Return, for each seed, the controls with and without the warm-up, stopped where it ends."""
    chosen = {name: value for name, value in given(values, controls.SHARED).items() if name != "steps"}
    found: list[dict[str, gpt2.GPT2Config]] = []
    for seed in seeds(n_seeds, controls.PROFILES[profile]):
        config = controls.configure({**chosen, "seed": seed}, profile)
        rows = controls.rows_of(config)
        steps, every = config.warmup, max(1, config.warmup // RECORDS)
        found.append({name: replace(rows[name], steps=steps, log_every=every) for name in NAMES})
    return [{name: Planned("gpt2", config, gpt2.data_id(config)) for name, config in rows.items()} for rows in found]


collect: Collect[list[dict[str, Run]]] = collector(asked)
"""What `asked` plans, loaded or computed."""
