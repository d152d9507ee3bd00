"""The book's one style of figures: sizes, axes, ticks. The colours are in `mfrbook.drawing.palette`."""

import math
import re
from typing import Any, NamedTuple

import matplotlib as mpl
import pandas as pd
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mfrbook.drawing.palette import GRID, INK

PHONE = 5.4
"""Inches: in a figure as wide as this, labels of 9 points are 9 pixels high on a phone of 420 pixels."""


class Live(NamedTuple):
    """What makes a figure respond: the kind that `_static/figures.js` knows, and the numbers it draws."""

    kind: str
    data: pd.DataFrame


class Plot(NamedTuple):
    """A figure, the table it was drawn from, what it shows for those who cannot see it, and one sentence of what one sees."""

    figure: Figure
    data: pd.DataFrame
    alt: str
    sees: str = ""
    live: Live | None = None


_RC: Any = {
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "axes.titlecolor": INK, "xtick.color": INK,
    "ytick.color": INK, "grid.color": GRID, "grid.alpha": 0.5, "axes.grid": True, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "figure.facecolor": "none", "axes.facecolor": "none",
    "savefig.facecolor": "none", "legend.frameon": False, "font.size": 10, "axes.titlesize": 11, "lines.linewidth": 1.6,
    "axes3d.xaxis.panecolor": "none", "axes3d.yaxis.panecolor": "none", "axes3d.zaxis.panecolor": "none",
}  # fmt: skip
styled = mpl.rc_context(_RC)  # as a decorator: everything drawn in the function has the book's style


def new_axes(
    columns: int = 1, rows: int = 1, *, height: float = 3.6, width: float | None = None, **options: Any
) -> tuple[Figure, Any]:
    """Return a figure and its axes; sizes in inches. By default one column fits a phone, and several fill the column of text."""
    width = width or (PHONE if columns == 1 else 7.2)
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def typeset(text: str) -> str:
    """Return a sentence with numbers as the book prints them: a minus that readers see, a space before the percent sign."""
    return re.sub(r"(?<=\d)%", "\u00a0%", re.sub(r"(?<![\w.])-(?=\d)", "−", text))


def plain_log(axis: Axis) -> None:
    """Label a logarithmic axis, once everything is drawn, with plain numbers: the more of a decade, the shorter it is."""
    low, high = axis.get_view_interval()
    decades = math.log10(high / low)
    axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5) if decades < 1.5 else (1, 3) if decades < 3 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
