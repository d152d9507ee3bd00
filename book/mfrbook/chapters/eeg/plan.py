"""The runs of the four conditions that the chapter on EEG asks for; its controls and readings are in modules of their own."""

from collections.abc import Mapping
from typing import Any

from mfrbook.chapters.eeg.runs import configs, data_id
from mfrbook.experiments.conditions import plan_conditions
from mfrbook.experiments.planned import Collect, Planned, collector
from mfrbook.store.runs import Run


def asked(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> list[dict[str, Planned]]:
    """Return, for each seed, the runs of the four conditions at a profile's size.

    Re-initialisation is left out where no start of some SAE stays below its threshold: it would never end.
    """
    found, alpha = configs(profile, n_seeds, values)
    return [plan_conditions("eeg", config, alpha, data_id(config)) for config in found]


collect: Collect[list[dict[str, Run]]] = collector(asked)
"""What `asked` plans, loaded or computed."""
