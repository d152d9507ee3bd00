"""Recompute an archived run, and say whether it comes out the same."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mfrlib import experiments
from mfrlib.config import ConfigError, unknown_name
from mfrlib.provenance import machine, versions
from mfrlib.runs import Run, Store

SPREADS = 3.0
RELATIVE = 0.05


@dataclass(frozen=True)
class Comparison:
    """What recomputing gave: `differences` holds for each result its largest deviation and the one allowed."""

    run: Run
    exact: bool
    comparable: bool
    """Whether source, versions and machine are those of the archived run, so that every bit should be the same."""
    differences: dict[str, tuple[float, float]]

    @property
    def same(self) -> bool:
        """Whether the run came out the same: to the bit where it should, within the tolerance elsewhere."""
        return self.exact or (not self.comparable and all(off <= allowed for off, allowed in self.differences.values()))

    def report(self) -> str:
        """Put the outcome into words, with a line for each result unless all bits are the same."""
        name = f"{self.run.experiment} {self.run.key}"
        if self.exact:
            return f"{name}: the same, bit for bit"
        kind = (
            "source, versions and machine are the same, so every bit should be"
            if self.comparable
            else "other source, versions or machine"
        )
        lines = [f"{name}: {'within the tolerance' if self.same else 'NOT the same'} ({kind})"]
        for result, (off, allowed) in self.differences.items():
            mark = " " if off <= allowed else "!"
            lines.append(f" {mark} {result}: off by {off:.3g}, allowed {allowed:.3g}")
        return "\n".join(lines)


def find(key: str, store: Store | None = None) -> Run:
    """Return the stored run whose key begins with `key`, without its weights.

    Raises
    ------
    ConfigError
        If there is none, or more than one.
    """
    store = store or Store()
    found = list(store.all(key=key, weights=False))
    if not found:
        others = {entry.name for entry in store.finished() if not entry.name.startswith(key)}
        raise unknown_name(key, others, "run")
    if len(found) > 1:
        raise ConfigError(f"RUN: must name one run, given {key!r}; there are {', '.join(run.key for run in found)}")
    return found[0]


def verify(run: Run, values: Mapping[str, Any] | None = None, *, progress: bool = True) -> Comparison:
    """Compute a run again, from its own config, and compare; in an empty cache, so what it is worked out from as well.

    On another machine, with other versions or other source, rounding differs, and training magnifies it: a result may
    then be off by three standard deviations over the archived runs that differ only in their seed (over seeds and
    SAEs), or, where there are no two of them, by 5 % of its size.

    Parameters
    ----------
    values
        Fields that an archive cannot know, such as the place of the `data`.
    """
    import torch

    module = experiments.load(run.experiment)
    config = dict(run.config)
    if "default_data" in vars(module) and config["data"] and not values:
        config["data"] = module.default_data("paper")
    threads = torch.get_num_threads()
    torch.set_num_threads(run.provenance["machine"]["threads"])
    try:
        with tempfile.TemporaryDirectory() as folder, _cached_in(folder):
            again = module.run(module.configure({**config, **(values or {})}), Store(Path(folder)), progress=progress)
        here = machine()
    finally:
        torch.set_num_threads(threads)
    if again.key != run.key:
        raise ConfigError(f"values: give another run, {again.key}, not {run.key}")
    comparable = (here, versions()) == (run.provenance["machine"], run.provenance["versions"]) and not run.stale
    siblings = [one for one in Store().all(run.experiment, weights=False) if _without_seed(one) == _without_seed(run)]
    return Comparison(run, _equal(run, again), comparable, _differences(run, again, siblings))


@contextmanager
def _cached_in(folder: str) -> Iterator[None]:
    """Let nothing that lies in the cache be taken for recomputed: some runs are worked out from weights of others."""
    before = os.environ.get("MFR_CACHE")
    os.environ["MFR_CACHE"] = folder
    try:
        yield
    finally:
        if before is None:
            del os.environ["MFR_CACHE"]
        else:
            os.environ["MFR_CACHE"] = before


def _without_seed(run: Run) -> tuple[str, dict[str, Any]]:
    return run.experiment, {name: value for name, value in run.config.items() if name != "seed"}


def _equal(a: Run, b: Run) -> bool:
    """Tell whether two runs have the same results, records and arrays, to the bit."""
    return (
        json.dumps([a.results, a.metrics]) == json.dumps([b.results, b.metrics])
        and a.arrays.keys() == b.arrays.keys()
        and all(np.array_equal(a.arrays[name], b.arrays[name], equal_nan=True) for name in a.arrays)
    )


def _differences(run: Run, again: Run, siblings: Sequence[Run]) -> dict[str, tuple[float, float]]:
    """Return for each numeric result its largest deviation and the one allowed; infinite where its shape changed."""
    found = {}
    for name, value in run.results.items():
        if (numbers := _numbers(value)) is None or not numbers.size:
            continue
        others = _numbers(again.results.get(name))
        if others is None or others.shape != numbers.shape:
            found[name] = (float("inf"), 0.0)
            continue
        known = [_numbers(one.results.get(name)) for one in siblings]
        spread = np.concatenate([one.ravel() for one in known if one is not None]) if len(siblings) > 1 else numbers
        allowed = SPREADS * spread.std(ddof=1) if len(siblings) > 1 else RELATIVE * np.abs(numbers).max()
        found[name] = (float(np.abs(others - numbers).max()), float(allowed))
    return found


def _numbers(value: Any) -> np.ndarray | None:
    """Return a result as an array of numbers, or None if it is something else."""
    try:
        found = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return None
    return found if np.isfinite(found).all() else None
