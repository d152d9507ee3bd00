"""The rule by which a verdict follows from effects: one for claims of a direction, one for claims of a level, one for questions.

An effect is positive on the paper's side. Its 95 % confidence interval (CI) says whether it is there; the 95 % prediction interval
for one more run (PI) says whether the paper's number, which is of a single run, is what such a run would give.

==========================  =====================================================================================
`reproduced`                the CI is on the paper's side, and the paper's number, if any, lies in a PI without zero
`same direction`            the CI is on the paper's side; the number cannot be compared, or the data are a stand-in
`same direction, smaller`   the CI is on the paper's side, the number above the PI
`same direction, larger`    the CI is on the paper's side, the number below the PI
`cannot tell`               the CI includes zero, or there are too few runs
`opposite`                  the CI is on the other side
`not tested`                with the reason
==========================  =====================================================================================
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mfrbook.drawing.statistics import binomial_interval, interval, prediction_interval

REPRODUCED, SAME, SMALLER, LARGER = "reproduced", "same direction", "same direction, smaller", "same direction, larger"
CANNOT_TELL, OPPOSITE, NOT_TESTED = "cannot tell", "opposite", "not tested"
YES, NO, AMOUNT = "yes", "no", "answered"
VERDICTS = (REPRODUCED, SAME, LARGER, SMALLER, CANNOT_TELL, OPPOSITE, YES, NO, AMOUNT, NOT_TESTED)
ENOUGH_SEEDS, ENOUGH_FOR_QUESTIONS = 5, 3
Ends = tuple[float, float]


def units(n: int, over: str) -> str:
    """Return a number of units in words."""
    return f"{n} {over.removesuffix('s') if n == 1 else over}"


@dataclass(frozen=True)
class Effect:
    """An effect over units: its mean, CI, PI (None where the unit is no run), the number of units, and what they are."""

    middle: float
    ci: Ends
    pi: Ends | None
    n: int
    over: str = "seeds"

    @property
    def units(self) -> str:
        """The number of units in words."""
        return units(self.n, self.over)


def effect_of(
    values: Sequence[float], *, over: str = "seeds", runs: bool = True, correlation: bool = False, fisher: bool = False,
    binomial: bool = False,
) -> Effect:  # fmt: skip
    """Return the effect of values, one for each unit.

    Parameters
    ----------
    over
        What the units are.
    runs
        Whether a unit is a run: only then is there a prediction interval.
    correlation, fisher
        Whether the values are correlations, or Fisher's z of correlations: both are averaged as z and given as correlations.
    binomial
        Whether the values are 1 or 0: the CI is the exact one of their share, and there is no PI.
    """
    x = np.arctanh(np.asarray(values, float)) if correlation else np.asarray(values, float)
    back = np.tanh if correlation or fisher else (lambda z: z)
    middle, low, high = (float(back(one)) for one in interval(x))
    if binomial:
        low, high = binomial_interval(int(x.sum()), len(x))
    pi = None
    if runs and not binomial and len(x) > 1:
        least, most = prediction_interval(x)
        pi = (float(back(least)), float(back(most)))
    return Effect(middle, (low, high), pi, len(x), over)


def of_direction(
    effect: Effect, value: float | None = None, *, stand_in: bool = False, enough: int = ENOUGH_SEEDS
) -> tuple[str, str]:
    """Return the verdict on a claim of a direction, and why. `value`: the paper's number, if it gives one."""
    if effect.n < enough:
        return CANNOT_TELL, f"{effect.units}; the rule asks for {enough}."
    low, high = effect.ci
    if low <= 0 <= high:
        return CANNOT_TELL, "The interval includes zero."
    if high < 0:
        return OPPOSITE, "The interval lies on the other side."
    if stand_in:
        return SAME, "The interval lies on the paper's side; the data are a stand-in for the paper's."
    if value is None:
        return REPRODUCED, "The interval lies on the paper's side; the paper gives no number."
    if effect.pi is None:
        return SAME, f"On the paper's side; its number, {value:g}, is of a run, and these values are not."
    least, most = effect.pi
    if value > most:
        return SMALLER, f"On the paper's side, but a further run would rarely reach its number, {value:g}."
    if value < least:
        return LARGER, f"On the paper's side, but a further run would rarely fall to its number, {value:g}."
    if least <= 0:
        return SAME, f"On the paper's side; single runs scatter too much to compare its number, {value:g}."
    return REPRODUCED, f"On the paper's side, and its number, {value:g}, is what a further run may give."


def of_level(
    effect: Effect,
    margin: float,
    level: float = 0.0,
    side: Literal["both", "below"] = "both",
    *,
    stand_in: bool = False,
    enough: int = ENOUGH_SEEDS,
) -> tuple[str, str]:
    """Return the verdict on a claim that something is at a level, such as none or no difference, and why.

    Parameters
    ----------
    margin
        How far from `level` still counts as at it.
    side
        "below": only effects below the level count against the claim, as with "at no cost".
    """
    if effect.n < enough:
        return CANNOT_TELL, f"{effect.units}; the rule asks for {enough}."
    least, most = level - margin, level + margin if side == "both" else np.inf
    low, high = effect.ci
    band = "what counts as the claim's level"
    if least <= low and high <= most:
        return (SAME if stand_in else REPRODUCED), f"The interval lies within {band}."
    if high < least or low > most:
        return OPPOSITE, f"The interval lies outside of {band}."
    return CANNOT_TELL, f"The interval reaches across the limits of {band}."


def of_question(effect: Effect, *, amount: bool = False) -> tuple[str, str]:
    """Return the answer to a question, and why. `amount`: it asks how much, so that the estimate is the answer."""
    if amount:
        return AMOUNT, "The estimate is the answer."
    if effect.n < ENOUGH_FOR_QUESTIONS:
        return CANNOT_TELL, f"{effect.units}; a question asks for {ENOUGH_FOR_QUESTIONS}."
    low, high = effect.ci
    if low <= 0 <= high:
        return CANNOT_TELL, "The interval includes zero."
    return (YES, "The interval lies above zero.") if low > 0 else (NO, "The interval lies below zero.")
