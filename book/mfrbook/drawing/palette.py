"""The book's colours: one for each condition, one for what the paper reports, each readable on white and on dark pages.

Every colour has a contrast of 3 or more with both backgrounds, and those of one figure stay apart under the three kinds of
colour blindness. Markers and line styles tell them apart as well.
"""

import re

from matplotlib.colors import LinearSegmentedColormap, to_hex

INK, GRID = "#2a2f3a", "#b9c0cc"  # replaced in the dark twin of a figure
BLUE, AMBER, GREEN, CRIMSON, VIOLET, GREY = "#0072b2", "#b27a00", "#009e73", "#e5004d", "#8f39e5", "#7b8794"
PAPER = "#d55e00"  # what a paper reports, and nothing else
MARKED = AMBER  # features and SAEs that a figure singles out
OTHERS = (BLUE, AMBER, GREEN, CRIMSON, VIOLET, GREY)  # for what is no condition, such as libraries

STYLE = {
    "baseline": ("Baseline", BLUE, "o", "-"),
    "reinit": ("Re-initialisation", GREEN, "^", "-."),
    "penalty": ("Penalty", CRIMSON, "s", "--"),
    "penalty, equal pull": ("Penalty of equal pull", AMBER, "^", "-."),
    "mfr": ("Penalty + re-initialisation (MFR)", VIOLET, "D", ":"),
    "centred": ("Centred data, no penalty", GREY, "P", "-"),
    "revival": ("Revival of dead features (AuxK)", AMBER, "^", "-."),
    "warm start": ("Start from the largest k's weights", GREEN, "v", ":"),
    "baseline, centred": ("Activations less their mean", VIOLET, "D", ":"),
    "baseline, longer": ("Baseline, four times the steps", GREY, "P", "-."),
    "reverse maximum": ("Penalty, maximum from the other side", VIOLET, "D", ":"),
    "α as released": ("Penalty, the released α", AMBER, "^", "-."),
    "as released": ("Penalty as released, both of these", GREEN, "v", "-"),
    "no warm-up": ("Penalty, no warm-up", AMBER, "^", "-."),
    "large α": ("Four times the α", VIOLET, "D", ":"),
    "large α, no warm-up": ("Four times the α, no warm-up", GREY, "v", "-."),
    "longer": ("Baseline, more steps", GREY, "v", "-."),
    "superior": ("Baseline, cluster below the midpoint", MARKED, "v", "-."),
    "local": ("Local", BLUE, "o", "-"),
    "e2e": ("End-to-end", AMBER, "s", "--"),
    "downstream": ("End-to-end + downstream", GREEN, "^", "-."),
    "e2e-mfr": ("End-to-end + mutual penalty", CRIMSON, "D", ":"),
}  # condition: name, colour, marker, line: never colour alone


def condition_of(choice: str) -> str:
    """Return the condition whose colour a choice has: what it does to the data, else whether it has a penalty."""
    if choice.startswith("centred"):
        return "centred"
    if choice.startswith("re-initialisation"):
        return "reinit"
    without = "no penalty" in choice or re.search(r"α = 0(?![.\d])", choice)
    return "penalty" if ("penalty" in choice or "α" in choice) and not without else "baseline"


_RAMP = LinearSegmentedColormap.from_list("k", ["#4a6fd6", "#0b86a8", "#0b9376", "#6f8a10", AMBER])


def ramp(n: int) -> list[str]:
    """Return n colours in order, for values of one quantity such as k."""
    return [to_hex(_RAMP(place / max(1, n - 1))) for place in range(n)]
