"""The papers' experiments: each a frozen config with profiles, and `run(config) -> Run`."""

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from mfrlib.config import unknown_name

# condition: (penalty, re-initialisation)
CONDITIONS: Mapping[str, tuple[bool, bool]] = {
    "baseline": (False, False),
    "reinit": (False, True),
    "penalty": (True, False),
    "mfr": (True, True),
}


def condition_fields(name: str, alpha: Any, reinit: str = "window") -> dict[str, Any]:
    """Return the config fields of one of the four conditions, for the penalty's weight and re-initialisation's mode."""
    penalty, restarts = CONDITIONS[name]
    return {"alpha": alpha if penalty else 0.0, "reinit": reinit if restarts else "off"}


NAMES = ("synthetic", "eeg")


def load(name: str) -> ModuleType:
    """Return an experiment's module by name; it has `configure`, `run` and `check_notebook`.

    Raises
    ------
    ConfigError
        With the nearest name, if there is no such experiment.
    """
    if name not in NAMES:
        raise unknown_name(name, NAMES, "experiment")
    return importlib.import_module(f"mfrlib.experiments.{name.replace('-', '_')}")


def drop_unset(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that are not None: in a notebook None means the profile's own."""
    return {name: value for name, value in values.items() if value is not None}
