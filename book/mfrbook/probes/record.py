"""A run as numbers that can be committed: small ones whole, large arrays by moments and a fixed projection."""

import hashlib
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from mfrbook.store.runs import Run

WHOLE = 12
"""Entries up to which an array is kept whole."""
Numbers = dict[str, list[float]]


def numbers(run: Run) -> Numbers:
    """Return what a run measured, recorded and learned, by path, such as `results/fvu` or `metrics/loss`.

    An array of more than `WHOLE` entries becomes six numbers: its size, how many entries are not finite, and of the
    finite ones the mean, the root mean square, a projection on cosines, and one on cosines of another frequency. The
    projections change where entries change places.
    """
    found: Numbers = {}
    for name, value in run.results.items():
        found |= {path: _summary(one) for path, one in within(f"results/{name}", value)}
    for name in sorted({name for record in run.metrics for name in record}):
        series = [record[name] for record in run.metrics if name in record]
        found |= {path: _summary(one) for path, one in within(f"metrics/{name}", series)}
    for kind, arrays in (("arrays", run.arrays), ("weights", run.weights)):
        for name, array in arrays.items():
            found[f"{kind}/{name}"] = _summary(np.asarray(array))
    return found


def texts(run: Run) -> dict[str, str]:
    """Return a hash of every text among a run's results, by path: compared only where all bits should be the same."""
    return {path: hashlib.sha256(text.encode()).hexdigest()[:16] for path, text in _texts("results", run.results)}


def within(path: str, value: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the numbers of a result by path, None as NaN; a list of numbers stays whole."""
    try:
        array = np.asarray(value)
    except ValueError:  # lists of several lengths
        array = np.empty(0, object)
    if array.dtype.kind in "iufb":
        yield path, array.astype(float)
    elif isinstance(value, dict | list | tuple):
        for name, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from within(f"{path}/{name}", one)
    elif value is None:
        yield path, np.array(math.nan)


def _summary(array: np.ndarray) -> list[float]:
    flat = array.ravel().astype(float)
    if flat.size <= WHOLE:
        return flat.tolist()
    finite = flat[np.isfinite(flat)]
    place = np.arange(flat.size)[np.isfinite(flat)]
    n = max(finite.size, 1)
    sums = [math.fsum(one) for one in (finite, finite**2, finite * np.cos(place), finite * np.cos(2.7 * place))]
    mean, square, *projections = sums
    return [
        flat.size,
        flat.size - finite.size,
        mean / n,
        math.sqrt(square / n),
        *(one / math.sqrt(n) for one in projections),
    ]


def _texts(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict | list):
        for name, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(f"{path}/{name}", one)


def to_json(found: Numbers) -> str:
    """Return numbers as JSON, a path a line; NaN is written as null."""
    lines = [
        f"{json.dumps(path)}: {json.dumps([None if math.isnan(one) else one for one in values])}"
        for path, values in sorted(found.items())
    ]
    return "{\n" + ",\n".join(lines) + "\n}"


def from_json(found: dict[str, list[float | None]]) -> Numbers:
    """Return numbers as they were before `to_json`."""
    return {path: [math.nan if one is None else float(one) for one in values] for path, values in found.items()}
