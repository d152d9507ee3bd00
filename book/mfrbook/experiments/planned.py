"""Sizes, seeds, and the runs that a notebook asks for before they are computed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mfrbook.store.runs import run_key
from mfrlib.config import checked, require


@dataclass(frozen=True)
class Profile:
    """A size: config fields, and the number of seeds."""

    fields: Mapping[str, Any]
    n_seeds: int


@dataclass(frozen=True)
class Planned:
    """A run that a notebook asks for, not yet computed."""

    experiment: str
    config: Any
    data_id: str
    after: "Planned | None" = None
    """A run that comes first; this one is needed only if that one reaches the threshold."""

    @property
    def key(self) -> str:
        """The run's key."""
        return run_key(self.experiment, self.config, self.data_id)


def seeds(n_seeds: int | None, profile: Profile) -> range:
    """Return the seeds to run: as many as asked for, or the profile's number."""
    n_seeds = checked({"n_seeds": n_seeds}, {"n_seeds": int | None})["n_seeds"]
    require(n_seeds is None or n_seeds >= 1, "n_seeds", n_seeds, "must be 1 or more")
    return range(profile.n_seeds if n_seeds is None else n_seeds)


def require_penalty(alpha: Any) -> None:
    """Refuse to compare conditions with and without penalty where there is none (preset `released-head`)."""
    require(alpha != 0, "alpha", alpha, "must not be 0 where conditions with and without penalty are compared")


def drop_unset(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that are not None: in a notebook None means the profile's own."""
    return {name: value for name, value in values.items() if value is not None}
