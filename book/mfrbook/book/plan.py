"""What a book needs computed, for a scheduler: the runs its notebooks ask for, and which of them are done.

The plan is a JSON file, made in a process of its own, so that reading it takes neither torch nor time. Beside the store
lies a *marker* for each planned run that is done, a small file whose time tells a scheduler what is out of date. Markers
repeat what the store says: they can be deleted at any time, and `Plan.synchronise` puts them right.
"""

import hashlib
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfrbook.book import notebooks
from mfrbook.book.edition import Edition
from mfrbook.chapters import registry
from mfrbook.experiments import sources
from mfrbook.experiments.planned import reaches_threshold
from mfrbook.store.behaviour import marks
from mfrbook.store.provenance import PROJECT
from mfrbook.store.runs import CHECKSUMS, describe_config, read
from mfrbook.store.store import Store
from mfrlib.config import ConfigError, key_fields, unknown_name
from mfrlib.data.files import replacing
from mfrlib.environment import cache_folder


@dataclass(frozen=True)
class Entry:
    """A planned run."""

    experiment: str
    config: dict[str, Any]
    about: str
    """What tells the run from others, for people."""
    data_id: str
    after: str | None
    """Key of a run that comes first; this one is needed only if that one reaches the threshold."""
    behaviour: dict[str, Any]
    """What marks a run of today's code (`mfrbook.store.behaviour.marks`)."""


@dataclass(frozen=True)
class Plan:
    """The runs that the book's notebooks ask for at a profile."""

    profile: str
    values: dict[str, Any]
    """Parameters of the notebooks, the profile aside."""
    runs: dict[str, Entry]
    """By key; a run stands after the one that it waits for."""
    notebooks: dict[str, dict[str, Any]]
    """By name, the keys each asks for, `runs`, and a hash of what it would be executed from, `inputs`."""

    def marker(self, key: str) -> Path:
        """Return the marker of a run."""
        return cache_folder() / "done" / self.runs[key].experiment / f"{key}.json"

    @property
    def _executed(self) -> Path:
        return Edition(PROJECT, self.profile).executed

    def compute(self, key: str, *, renew: bool = False) -> dict[str, Any]:
        """Compute a planned run into the store, unless it is there or is not needed, and write its marker.

        Parameters
        ----------
        renew
            Compute stale runs again.
        """
        if key not in self.runs:
            raise unknown_name(key, self.runs, "run of the plan")
        if not self.settled(key, renew):
            entry = self.runs[key]
            if entry.after and not self.settled(entry.after, renew):
                raise RuntimeError(
                    f"{key} is needed only if {entry.after} reaches the threshold: compute that run first"
                )
            module = registry.load(entry.experiment)
            run = module.run(module.configure(entry.config, self.profile), Store(renew=renew))
            if run.key != key:
                raise RuntimeError(f"the plan's {key} is {run.key} to today's code: plan again")
        found = self.settled(key, renew)
        if not found:
            raise RuntimeError(f"{key} is not in the store: the code has changed since the plan was made, plan again")
        _write(self.marker(key), found)
        return found

    def settled(self, key: str, renew: bool = False) -> dict[str, Any] | None:
        """Return what a run's marker has to say, or None if the run is yet to be computed.

        Returns
        -------
        dict
            `entry` in the store, the `behaviour` that made it, size and time of its `files`, whether it `reached` the threshold.
            For a run that is not needed, all this of the run it waits for.
        """
        entry, known = self.runs[key], _json(self.marker(key))
        stale = None
        for folder in Store().entries(entry.experiment, key):
            found = _evidence(folder, known)
            if found and found["behaviour"] == entry.behaviour:
                return found
            stale = stale or found
        if stale and not renew:
            return stale
        first = self.settled(entry.after, renew) if entry.after else None
        return first if first and not first["reached"] else None

    def synchronise(self, *, renew: bool = False) -> int:
        """Put the markers of runs and notebooks right: written where missing, removed where what they say is not so.

        Returns
        -------
        int
            How many of the runs that are done are stale.
        """
        done = {key: found for key in self.runs if (found := self.settled(key, renew))}
        for key in self.runs:
            marker = self.marker(key)
            if key not in done:
                marker.unlink(missing_ok=True)
            elif done[key] != _json(marker):
                _write(marker, done[key], time=done[key]["files"][CHECKSUMS][1])
        for name, about in self.notebooks.items():
            executed, marker = self._executed / f"{name}.ipynb", self._executed / f"{name}.done"
            if not notebooks.fresh(executed, about["inputs"]) or not done.keys() >= set(about["runs"]):
                marker.unlink(missing_ok=True)
            elif not marker.exists():
                _write(marker, {}, time=executed.stat().st_mtime_ns)
        return sum(found["behaviour"] != self.runs[key].behaviour for key, found in done.items())


def make(profile: str, values: Mapping[str, Any]) -> Plan:
    """Work out the plan of the book, its notebooks all executed with the same parameters; takes torch.

    Raises
    ------
    ConfigError
        If a notebook has no such parameter, or no run could be made from them.
    """
    values = sources.resolved(values)
    runs: dict[str, Entry] = {}
    about = {}
    for name, inputs in _inputs(profile, values).items():
        planned = notebooks.check(notebooks.find(name), {**values, "profile": profile})
        for one in planned:
            if one.key not in runs or one.after is None:
                runs[one.key] = Entry(
                    one.experiment,
                    describe_config(one.config),
                    " ".join(f"{field}={value}" for field, value in key_fields(one.config).items()),
                    one.data_id,
                    one.after.key if one.after else None,
                    marks(one.experiment),
                )
        about[name] = {"inputs": inputs, "runs": list(dict.fromkeys(one.key for one in planned))}
    return Plan(profile, dict(values), runs, about)


def load(profile: str, values: Mapping[str, Any]) -> tuple[Plan, Path]:
    """Return the plan and its file, made where there is none or where notebooks, source or places have changed."""
    values = sources.resolved(values)
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]
    path = cache_folder() / "plans" / f"{profile}-{digest}.json"
    found = _json(path) or {"notebooks": {}}
    if {name: one["inputs"] for name, one in found["notebooks"].items()} != _inputs(profile, values):
        pairs = [part for name, value in values.items() for part in ("-p", f"{name}={json.dumps(value)}")]
        line = [sys.executable, "-m", "mfrbook", "plan", "--profile", profile, *pairs]
        done = subprocess.run(line, cwd=PROJECT, capture_output=True, encoding="utf-8")
        if done.returncode:
            raise ConfigError(done.stderr.strip().removeprefix("mfr: "))
        found = json.loads(done.stdout)
        _write(path, found)
    return from_file(path), path


def from_file(path: Path) -> Plan:
    """Return the plan in a file that holds the output of `mfr plan`.

    Raises
    ------
    ConfigError
        If the file holds something else.
    """
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        return Plan(**{**plan, "runs": {key: Entry(**one) for key, one in plan["runs"].items()}})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: must hold what mfr plan prints") from error


def _inputs(profile: str, values: Mapping[str, Any]) -> dict[str, str]:
    chosen = {**values, "profile": profile}
    return {name: notebooks.inputs(notebooks.find(name), chosen) for name in notebooks.NAMES}


def _evidence(entry: Path, known: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return what a marker says of an entry in the store, or None if it is missing or damaged.

    Files that have the size and the time which the marker knows are not read again.
    """
    if not entry.is_dir():
        return None
    try:
        names = [CHECKSUMS, *json.loads((entry / CHECKSUMS).read_text())]
        stats = {name: (entry / name).stat() for name in names}
        files = {name: [one.st_size, one.st_mtime_ns] for name, one in stats.items()}
        if known and (known.get("entry"), known.get("files")) == (str(entry), files):
            return known
        run = read(entry, weights=False)
        reached = "reinit_window" in run.config and reaches_threshold(run)
        behaviour = {name: run.provenance.get(name) for name in marks(run.experiment)}
        return {"entry": str(entry), "behaviour": behaviour, "files": files, "reached": reached}
    except (OSError, ValueError, KeyError, TypeError) as error:
        warnings.warn(f"stored run {entry} is damaged and not used: {error}", stacklevel=2)
        return None


def _json(path: Path) -> dict[str, Any] | None:
    """Return what is in a JSON file, or None if that is no object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write(path: Path, content: dict[str, Any], time: int | None = None) -> None:
    """Write JSON in one step, with a time of modification of its own (ns) where one is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(json.dumps(content, indent=1).encode())
        file.flush()  # what is written later would change the time
        if time is not None:
            os.utime(file.name, ns=(time, time))
