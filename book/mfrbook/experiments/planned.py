"""The runs that a page asks for, said once: listed by `plan` before they are computed, then loaded or computed by `collected`.

A part of a page has a function `asked` of profile, number of seeds and parameters. It returns the runs in the form in which figures
and tables take them, each a `Planned`: lists, mappings, named tuples. `collector` makes of it the function that returns
the same form with runs in their place.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol, TypeVar

from mfrbook.chapters import registry
from mfrbook.experiments.archived import not_here
from mfrbook.store.runs import Run, run_key
from mfrbook.store.store import MissingRunsError, Store
from mfrlib.config import ConfigError, checked, require, unknown_name

R = TypeVar("R")
T = TypeVar("T", covariant=True)
Asked = Callable[[str, int | None, Mapping[str, Any]], Any]
"""What says which runs a part of a page asks for, by profile, number of seeds and parameters."""


@dataclass(frozen=True)
class Profile:
    """A size: config fields, and the number of seeds."""

    fields: Mapping[str, Any]
    n_seeds: int


class Profiles(dict[str, Profile]):
    """Sizes by name; a name that is not there is refused, with the nearest one."""

    def __missing__(self, name: str) -> Profile:
        """Refuse an unknown profile."""
        raise unknown_name(name, self, "profile")


@dataclass(frozen=True)
class Planned:
    """A run that a page asks for, not yet computed."""

    experiment: str
    config: Any
    data_id: str
    after: "Planned | None" = None
    """A run that comes first; this one is needed only if that one reaches the threshold."""

    @property
    def key(self) -> str:
        """The run's key."""
        return run_key(self.experiment, self.config, self.data_id)

    def run(self, store: Store, *, progress: bool = True) -> Run:
        """Return the run, from the store or, where that trains, computed."""
        if store.trains:
            return registry.load(self.experiment).run(self.config, store, progress=progress)
        return store.existing(self.experiment, self.config, self.data_id)


def reaches_threshold(run: Run) -> bool:
    """Tell whether re-initialisation in its window would have fired in a run without it, and could have come to an end.

    It could not where a run says (`passing_starts`, one share per SAE) that no fresh start stays below the threshold.
    """
    steps, values = run.series("inactivity")
    fires = (values[steps < run.config["reinit_window"]] > run.config["reinit_threshold"]).any()
    return bool(fires and min(run.results.get("passing_starts", [1])) > 0)


class Collect(Protocol[T]):
    """What `collector` returns."""

    def __call__(
        self,
        profile: str,
        n_seeds: int | None = None,
        values: Mapping[str, Any] | None = None,
        *,
        trains: bool | None = None,
    ) -> T:
        """Return the runs of a profile's size, of so many seeds and these parameters.

        Parameters
        ----------
        trains
            Whether missing runs are computed; by default they are, except under profile `published`, which reads the archive.
        """


def archived(planned: Callable[[], Any], none: Callable[[], Any] = list) -> Asked:
    """Return the `asked` of runs that only the archive holds: what is planned under `published`, and `none` where a book makes its runs anew."""

    def asked(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> Any:
        return planned() if profile == "published" else none()

    return asked


def collector(asked: Asked) -> Collect[Any]:
    """Return the function that loads or computes the runs of `asked`."""

    def collect(
        profile: str, n_seeds: int | None = None, values: Mapping[str, Any] | None = None, *, trains: bool | None = None
    ) -> Any:
        store = Store(trains=profile != "published" if trains is None else trains)
        return collected(asked(profile, n_seeds, values or {}), store)

    return collect


def collected(asked: Any, store: Store, *, progress: bool = True) -> Any:
    """Return what is asked for with runs in the place of the planned ones; a mapping leaves out a run that is not needed.

    Raises
    ------
    MissingRunsError
        Listing all runs that are missing, if the store does not train.
    """
    runs: dict[str, Run | None] = {}
    missing: list[str] = []

    def made(one: Any) -> Any:
        match one:
            case Planned():
                key, first = one.key, made(one.after) if one.after else None
                if key not in runs and (not one.after or (first and reaches_threshold(first))):
                    runs[key] = None
                    try:
                        runs[key] = one.run(store, progress=progress)
                    except MissingRunsError as error:
                        missing.append(str(error))
                return runs.get(key)
            case Mapping():
                return {name: found for name, part in one.items() if (found := made(part)) is not None}
            case list():
                return [made(part) for part in one]
            case tuple():
                return type(one)(*map(made, one))
        return one

    found = made(asked)
    if missing:
        raise MissingRunsError("\n".join(missing))
    return found


def flat(asked: Any) -> Iterator[Planned]:
    """Yield the planned runs of what is asked for, in order."""
    if isinstance(asked, Planned):
        yield asked
    elif isinstance(asked, Mapping | list | tuple):
        for part in asked.values() if isinstance(asked, Mapping) else asked:
            yield from flat(part)


def plan(names: Iterable[str], values: Mapping[str, Any]) -> list[Planned]:
    """Return the runs that a page of these parts and parameters asks for, each once, refusing values that no run could have."""
    profile, n_seeds = values["profile"], values.get("n_seeds")
    rest = {name: value for name, value in values.items() if name not in ("profile", "n_seeds")}
    found: dict[str, Planned] = {}
    for name in names:
        for one in flat(registry.load_plan(name).asked(profile, n_seeds, rest)):
            if profile != "published" and (why := not_here(one.config)):
                raise ConfigError(why)
            if one.key not in found or one.after is None:
                found[one.key] = one
    return list(found.values())


def seeds(n_seeds: int | None, profile: Profile) -> range:
    """Return the seeds to run: as many as asked for, or the profile's number."""
    n_seeds = checked({"n_seeds": n_seeds}, {"n_seeds": int | None})["n_seeds"]
    require(n_seeds is None or n_seeds >= 1, "n_seeds", n_seeds, "must be 1 or more")
    return range(profile.n_seeds if n_seeds is None else n_seeds)


def require_penalty(alpha: Any) -> None:
    """Refuse to compare conditions with and without penalty where there is none (preset `released-head`)."""
    require(alpha != 0, "alpha", alpha, "must not be 0 where conditions with and without penalty are compared")


def given(values: Mapping[str, Any], names: Collection[str] | type) -> dict[str, Any]:
    """Return the values of these names, or of a config's fields, that are not None: in a notebook None means the profile's own."""
    wanted = {field.name for field in fields(names)} if isinstance(names, type) else names
    return {name: value for name, value in values.items() if name in wanted and value is not None}
