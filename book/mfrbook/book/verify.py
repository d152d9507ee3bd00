"""Recompute an archived run, and say whether it comes out the same."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from mfrbook.chapters import registry
from mfrbook.probes.compare import deviation, differing
from mfrbook.probes.record import within
from mfrbook.store.provenance import commit, commit_text, machine, versions
from mfrbook.store.retired import complete
from mfrbook.store.runs import Run
from mfrbook.store.store import Store, temporary_cache
from mfrlib.config import ConfigError

SPREADS = 3 * 2**0.5
"""A difference of two runs spreads √2 times as far as a run does."""
RELATIVE = 0.05
ROUNDING = 1e-6
PLACES = ("data", "eye_movements")
"""Fields of which the archive keeps the name alone, of a folder or file that may lie elsewhere here."""


@dataclass(frozen=True)
class Comparison:
    """What recomputing gave.

    `differences` holds for each archived number, or list of numbers, its largest deviation and the one allowed, those
    within lists and objects by their path, such as `measures/3/rrmse_t`, and `arrays/rate/rms` for an array. It is empty
    if all bits are the same.
    """

    run: Run
    exact: bool
    others: Sequence[str]
    """What of behaviour, code, versions and machine is not that of the archived run; if nothing, every bit should be the same."""
    differences: dict[str, tuple[float, float]]

    @property
    def same(self) -> bool:
        """Whether the run came out the same: to the bit where it should, within the tolerance elsewhere."""
        within = all(off <= allowed for off, allowed in self.differences.values())
        return self.exact or (bool(self.others) and bool(self.differences) and within)

    def report(self) -> str:
        """Put the outcome into words, with a line for each result unless all bits are the same; of nested ones, if off."""
        name = f"{self.run.experiment} {self.run.key}"
        if self.exact:
            return f"{name}: the same, bit for bit"
        kind = "; ".join(self.others) or "code, versions and machine are the same, so every bit should be"
        lines = [f"{name}: {'within the tolerance' if self.same else 'NOT the same'} ({kind})"]
        more = 0
        for result, (off, allowed) in self.differences.items():
            if off <= allowed and "/" in result:
                more += 1
                continue
            said = f"off by {off:.3g}, allowed {allowed:.3g}" if np.isfinite(off) else "differs"
            lines.append(f" {' ' if off <= allowed else '!'} {result}: {said}")
        if more:
            lines.append(f"   and {more:,} more within the tolerance")
        if not self.differences:
            lines.append("   there is nothing to compare")
        return "\n".join(lines)


def find(key: str) -> Run:
    """Return the stored run whose key begins with `key`, without its weights.

    Raises
    ------
    ConfigError
        If there is none, or more than one.
    """
    found = list(Store().all(key=key, weights=False))
    if not found:
        raise ConfigError(
            f"RUN: no sound run's key begins so, given {key!r}; book/results/index.md lists the archive's"
        )
    if len(found) > 1:
        raise ConfigError(f"RUN: must name one run, given {key!r}; there are {', '.join(run.key for run in found)}")
    return found[0]


def verify(run: Run, values: Mapping[str, Any] | None = None, *, progress: bool = True) -> Comparison:
    """Compute a run again, from its own config, and compare; in an empty cache, so what it is worked out from as well.

    With other code, on another machine or with other versions, rounding differs, and training magnifies it: a result may
    then be off by three standard deviations of a difference, √2 times that over the archived runs that differ only in their
    seed (over seeds and SAEs), and by a millionth of its size at least, or, where there are no two of them, by 5 % of its size. So may each
    number within a nested result, and the root mean square of each array. Text, and what only the recomputed run has,
    is passed over.

    Parameters
    ----------
    values
        Fields that an archive cannot know, such as the place of the `data`.
    """
    import torch

    module = registry.load(run.experiment)
    config = dict(run.config)
    if named := [place for place in PLACES if config.get(place) and place not in (values or {})]:
        usual = module.configure({}, "published")
        there = {place: getattr(usual, place) for place in named}
        with suppress(ValueError):  # what is usual is not here
            if module.data_id(module.configure({**config, **there})) == run.data_id:
                config |= there
    threads = torch.get_num_threads()
    torch.set_num_threads(run.provenance["machine"]["threads"])
    try:
        with temporary_cache() as folder:
            chosen = module.configure({**config, **(values or {})})
            again = module.run(chosen, Store(folder), progress=progress)
        here = {**versions(), **machine(), "code": commit_text(commit())}
    finally:
        torch.set_num_threads(threads)
    if again.key != run.key:
        raise ConfigError(f"values: give another run, {again.key}, not {run.key}")
    others = ["other behaviour"] * run.stale + differing(
        {**run.provenance["versions"], **run.provenance["machine"], "code": commit_text(run.provenance)}, here
    )
    if _equal(run, again):
        return Comparison(run, True, others, {})
    every, own = Store().all(run.experiment, weights=False), _without_seed(run, type(chosen))
    siblings = [one for one in every if _without_seed(one, type(chosen)) == own]
    return Comparison(run, False, others, _differences(run, again, siblings))


def _without_seed(run: Run, kind: type) -> str:
    """Return a run's config but for its seed."""
    return json.dumps(complete(kind, run.config) | {"seed": None}, sort_keys=True)


def _equal(a: Run, b: Run) -> bool:
    """Tell whether two runs have the same results, records and arrays, to the bit."""
    return (
        json.dumps([a.results, a.metrics]) == json.dumps([b.results, b.metrics])
        and a.arrays.keys() == b.arrays.keys()
        and all(np.array_equal(a.arrays[name], b.arrays[name], equal_nan=True) for name in a.arrays)
    )


def _differences(run: Run, again: Run, siblings: Sequence[Run]) -> dict[str, tuple[float, float]]:
    """Return for each number of a run, or list of them, its largest deviation and the one allowed; infinite if its shape changed."""
    others, known = _numbers(again), [_numbers(one) for one in siblings]
    found = {}
    for path, numbers in _numbers(run).items():
        alike = path in others and others[path].shape == numbers.shape
        off = deviation(numbers.ravel().tolist(), others[path].ravel().tolist()) if alike else np.inf
        if numbers.size or not alike:
            found[path] = off, _allowed(numbers, [one[path] for one in known if path in one])
    return found


def _numbers(run: Run) -> dict[str, np.ndarray]:
    """Return the numbers that a run's results hold, by path, and of each array the root mean square.

    The entries of an array are not compared one by one: rounding that leaves all results where they are may yet let two
    features of an SAE change places. Nor is text, such as the tokens that a feature is most active on.
    """
    found = {path: numbers for name, value in run.results.items() for path, numbers in within(name, value)}
    for name, array in run.arrays.items():
        finite = array[np.isfinite(array)].astype(float)
        found[f"arrays/{name}/rms"] = np.asarray(np.linalg.norm(finite) / max(finite.size, 1) ** 0.5)
        found[f"arrays/{name}/shape"] = np.empty((*array.shape, 0))  # of which nothing else is compared
    return found


def _allowed(numbers: np.ndarray, siblings: Sequence[np.ndarray]) -> float:
    """Return how far numbers may be off, from what they are in all archived runs of their config and any seed."""
    known = np.concatenate([one.ravel() for one in siblings]) if len(siblings) > 1 else numbers
    known = known[np.isfinite(known)]
    size = np.abs(known).max(initial=0.0)
    if len(siblings) > 1 and known.size > 1:
        return float(max(SPREADS * known.std(ddof=1), ROUNDING * size))  # what no seed changes is rounded too
    return float(RELATIVE * size)
