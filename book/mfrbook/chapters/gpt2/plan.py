"""The runs of the four conditions that the chapter on language models asks for; its controls are in a module of their own."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from mfrbook.chapters.gpt2.runs import PROFILES, GPT2Config, configure, data_id
from mfrbook.experiments.conditions import plan_conditions, seed_configs
from mfrbook.experiments.planned import Collect, Planned, collector, given
from mfrbook.store.runs import Run


def asked(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> list[dict[str, Planned]]:
    """Return, for each seed, the runs of the four conditions at a profile's size.

    Re-initialisation is left out where no start stays below its threshold: it would never end.
    """
    sized = partial(configure, profile=profile)
    configs, alpha = seed_configs(sized, given(values, GPT2Config), PROFILES[profile], n_seeds)
    return [plan_conditions("gpt2", config, alpha, data_id(config)) for config in configs]


collect: Collect[list[dict[str, Run]]] = collector(asked)
"""What `asked` plans, loaded or computed."""
