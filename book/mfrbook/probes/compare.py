"""Judge a recomputed probe by its committed record: identical, equal within rounding, or changed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mfrbook.probes.record import Numbers

Verdict = Literal["identical", "within rounding", "changed"]
FACTOR = 10.0
"""Rounding that is allowed, in units of the largest seen over instruction sets, kernels, BLAS and numbers of threads."""
FLOOR = 1e-6
"""Least rounding of a number that came out alike wherever it was tried, as a share of its size."""


@dataclass(frozen=True)
class Record:
    """What is committed of a probe: its numbers, hashes of its texts, and how far each number's rounding was seen to reach."""

    numbers: Numbers
    texts: Mapping[str, str]
    rounding: Mapping[str, float]


@dataclass(frozen=True)
class Judged:
    """The outcome of one probe."""

    experiment: str
    name: str
    verdict: Verdict
    reason: str = ""
    seconds: float = 0.0
    others: Sequence[str] = field(default=())
    """What of this machine differs from the one that made the record."""

    def line(self) -> str:
        """Return the line that is printed."""
        about = f" ({'; '.join(self.others)})" if self.verdict == "within rounding" and self.others else ""
        return f"{self.experiment} · {self.name}: {self.verdict}{about}{': ' + self.reason if self.reason else ''}"


def judge(record: Record, numbers: Numbers, texts: Mapping[str, str], others: Sequence[str]) -> tuple[Verdict, str]:
    """Return the verdict on a probe and the first number that decides it.

    Parameters
    ----------
    others
        What of instructions and versions differs from the machine that made the record; if nothing, every bit has to
        agree.
    """
    if names := sorted(record.numbers.keys() ^ numbers.keys()):
        return "changed", f"{names[0]} is {'new' if names[0] in numbers else 'missing'}"
    reason = ""
    for path, expected in record.numbers.items():
        found = numbers[path]
        if len(found) != len(expected):
            return "changed", f"{path} has {len(found)} entries, recorded {len(expected)}"
        off = deviation(found, expected)
        if off > allowed(record, path):
            return "changed", f"{path} is off by {off:.3g}, rounding reaches {allowed(record, path):.1g} at most"
        if off and not reason:
            reason = f"{path} is off by {off:.3g}"
    if not others:
        if reason:
            return "changed", f"{reason}, and machine and versions are those of the record, so every bit should agree"
        if other := next((path for path in sorted(record.texts) if texts.get(path) != record.texts[path]), ""):
            return "changed", f"the text {other} differs"
    return ("within rounding", reason) if reason else ("identical", "")


def deviation(a: Sequence[float], b: Sequence[float]) -> float:
    """Return how far two lists of numbers are apart at most; NaN equals NaN, and nothing else."""
    return max((_apart(x, y) for x, y in zip(a, b, strict=True)), default=0.0)


def _apart(x: float, y: float) -> float:
    if x == y or (math.isnan(x) and math.isnan(y)):
        return 0.0
    return math.inf if math.isnan(x) or math.isnan(y) else abs(x - y)


def allowed(record: Record, path: str) -> float:
    """Return how far a number may be off on another kind of machine."""
    size = max((abs(one) for one in record.numbers[path] if math.isfinite(one)), default=0.0)
    return FACTOR * max(record.rounding.get(path, 0.0), FLOOR * size)


def differing(made: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Return what of instructions and versions is not that of the machine that made a record, in words."""
    names = dict.fromkeys([*made, *here])
    return [
        f"{name} {made.get(name, 'unknown')} there, {here.get(name, 'none')} here"
        for name in names
        if made.get(name) != here.get(name)
    ]
