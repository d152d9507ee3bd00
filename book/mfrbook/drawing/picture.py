"""A figure as one SVG file. Its dark twin, and the parts that a phone shows one below the other, are views of that file.

`figure.svg#dark` is the figure in the ink of dark pages, `figure.svg#2` its third part and `figure.svg#2-dark` that part in dark.
"""

import html
import io
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.transforms import Bbox

from mfrbook.drawing.palette import GRID, INK
from mfrbook.drawing.style import PHONE

DARK = {INK: ("ink", "#dfe3ea"), GRID: ("grid", "#5b6472")}
_MARGIN = 0.04  # inches around a part
_NATURAL = 4.0  # inches: the column of a phone; no part is shown larger than it was drawn


def picture(figure: Figure, alt: str) -> str:
    """Return the images of a figure as HTML: whole and in parts, for light and for dark pages.

    Only the first image carries the file, as a ``data:`` URI. The others name a view of it (``src="#dark"``); the extension of the book
    that writes the file gives them its address.
    """
    figure.draw_without_rendering()
    for legend in figure.legends:
        _fit(legend, figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once, not again whenever it is drawn
    content = _svg(figure)
    rows = parts(figure)
    address = f"data:image/svg+xml;base64,{b64encode(_with_views(content, figure, rows).encode()).decode()}"
    said = html.escape(alt)
    whole = " mfr-whole" if rows else ""
    images = f'<img class="mfr-light{whole}" src="{address}" alt="{said}"><img class="mfr-dark{whole}" style="display:none" src="#dark" alt="{said}">'
    if not rows:
        return images
    shown = ""
    for place, row in enumerate(rows):
        width = max(_NATURAL, sum(box.width for box in row))
        shown += "<div>"
        for number, box in enumerate(row, start=sum(map(len, rows[:place]))):
            size = f"width:{100 * box.width / width:.1f}%;aspect-ratio:{box.width / box.height:.3f}"
            if top := row[-1].y1 - box.y1:  # labels of a shared axis stand beside it
                size += f";margin-top:{100 * top / width:.1f}%"
            text = f"The figure, part {place + 1} of {len(rows)}" if number else said
            for look, view in (("light", number), ("dark", f"{number}-dark")):
                shown += f'<img class="mfr-{look}" src="#{view}" style="{size}" alt="{text}">'
        shown += "</div>"
    return f'{images}<div class="mfr-parts" style="display:none">{shown}</div>'


def _fit(legend: Legend, figure: Figure) -> None:
    """Make a legend's words smaller until its ends are not cut off."""
    for _ in range(9):  # their lines and gaps stay as they are
        room = figure.bbox.width / legend.get_window_extent().width
        for label in legend.get_texts() if room < 1 else ():
            label.set_fontsize(0.98 * room * float(label.get_fontsize()))


def parts(figure: Figure) -> list[list[Bbox]]:
    """Cut a figure that is too wide for a phone between its panels, its colour bars and the columns of its legends.

    Returns
    -------
    list of list of Bbox
        From the top, what stands side by side: a group of panels, before it the labels of a y axis that it shares with a panel of
        another group. In inches from the lower left corner. Empty where the whole figure fits.
    """
    if figure.get_figwidth() <= PHONE:
        return []
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()  # legends have their place since then
    rows = _rows(_blocks(figure, renderer))
    found = [group for row in rows for group in _groups(row)]
    return found if len(found) > 1 else []


class _Block:
    """What is not cut: where it lies, and where its panels' y axes stand."""

    def __init__(self, box: Bbox, ax: Axes | None = None) -> None:
        self.box, self.axes = box, [ax] if ax else []
        frame = ax.get_window_extent() if ax else box
        self.left, self.foot, self.head = frame.x0, frame.y0, frame.y1

    def join(self, other: "_Block") -> None:
        self.box, self.axes = Bbox.union([self.box, other.box]), self.axes + other.axes
        self.left, self.foot = min(self.left, other.left), min(self.foot, other.foot)
        self.head = max(self.head, other.head)

    def labelled(self) -> bool:
        return self.left - self.box.x0 > 20  # hundredths of an inch: more than half of a label of the x axis


def _blocks(figure: Figure, renderer: RendererAgg) -> list[_Block]:
    """Return the blocks of a figure in hundredths of an inch; panels below each other that belong together are one."""
    found: list[_Block] = []
    for ax in filter(Axes.get_visible, figure.axes):
        block = _Block(ax.get_tightbbox(renderer) or ax.get_window_extent(), ax)
        together = [other for other in found if _belong(ax, other.axes[-1])]
        together = together or [other for other in found if _overlap(block.box, other.box)]
        if together:
            together[0].join(block)
        else:
            found.append(block)
    for legend in figure.legends:
        columns: dict[int, list[Bbox]] = {}
        for text in legend.get_texts():
            box = text.get_window_extent(renderer)
            handle = 3 * float(text.get_fontsize()) * 100 / 72  # a line of 2 letters' width and the space after it
            entry = Bbox.from_extents(box.x0 - handle, box.y0, box.x1, box.y1)
            columns.setdefault(round(box.x0), []).append(entry)
        found += [_Block(Bbox.union(boxes)) for boxes in columns.values()]
    found += [_Block(text.get_window_extent(renderer)) for text in figure.texts if text.get_text().strip()]
    return found


def _belong(lower: Axes, upper: Axes) -> bool:
    """Whether panels below each other share an x axis, or the title of the upper one."""
    under = abs(np.mean(lower.get_position().intervalx) - np.mean(upper.get_position().intervalx)) < 0.05
    titles = lower.get_title() or lower.get_title("left"), upper.get_title() or upper.get_title("left")
    return under and (lower.get_shared_x_axes().joined(lower, upper) or bool(titles[1] and not titles[0]))


def _overlap(one: Bbox, other: Bbox) -> bool:
    both = Bbox.intersection(one, other)
    return both is not None and both.width > 5 and both.height > 5


def _rows(blocks: Sequence[_Block]) -> Iterator[list[_Block]]:
    """Yield blocks that stand side by side, rows from the top, each from the left; a column of a row is cut into rows again."""
    for row in _apart(blocks, lambda box: (-box.y1, -box.y0)):
        columns = _apart(row, lambda box: (box.x0, box.x1))
        if len(columns) == 1 and len(row) > 1:  # they overlap
            columns = [[_Block(Bbox.union([one.box for one in row]))]]
        high = [column[0] for column in columns if len(column) == 1]  # such as a colour bar beside rows of panels
        if len(high) == len(columns):
            yield high
        elif high:
            yield from _rows([block for column in columns if len(column) > 1 for block in column])
            yield high
        else:
            for column in columns:
                yield from _rows(column)


def _apart(blocks: Iterable[_Block], ends: Callable[[Bbox], tuple[float, float]]) -> list[list[_Block]]:
    """Part blocks wherever a straight cut, across the direction of their `ends`, meets none of them."""
    found: list[list[_Block]] = []
    last = 0.0
    for block in sorted(blocks, key=lambda one: ends(one.box)):
        start, end = ends(block.box)
        if found and start < last - 5:
            found[-1].append(block)
            last = max(last, end)
        else:
            found.append([block])
            last = end
    return found


def _groups(row: Sequence[_Block]) -> Iterator[list[Bbox]]:
    """Join neighbours as long as they fit a phone, and put the labels of a shared y axis before those that lack them."""
    low, high = min(one.box.y0 for one in row), max(one.box.y1 for one in row)
    widest = max(100 * PHONE - 40, *(one.box.width for one in row))
    groups: list[list[_Block]] = []
    for block in row:
        if groups and block.box.x1 - groups[-1][0].box.x0 <= widest:
            groups[-1].append(block)
        else:
            groups.append([block])
    even = [list(one) for one in np.array_split(np.array(row, dtype=object), len(groups))]
    if all(group[-1].box.x1 - group[0].box.x0 <= widest for group in even):
        groups = even
    labels = next((one for one in row if one.axes and one.labelled()), None)
    for group in groups:
        first, found = group[0], []
        if labels and first.axes and not first.labelled() and _same_y(first, labels):
            found.append(_inches(labels.box.x0, labels.foot - 5, labels.left, labels.head, right=-0.03))
        yield [*found, _inches(first.box.x0, low, group[-1].box.x1, high, left=0.01 if found else _MARGIN)]


def _same_y(one: _Block, other: _Block) -> bool:
    first, second = one.axes[0], other.axes[0]
    return bool(
        np.allclose(first.get_ylim(), second.get_ylim())
        and np.allclose(first.get_position().intervaly, second.get_position().intervaly)
    )


def _inches(x0: float, y0: float, x1: float, y1: float, *, left: float = _MARGIN, right: float = _MARGIN) -> Bbox:
    return Bbox.from_extents(x0 / 100 - left, y0 / 100 - _MARGIN, x1 / 100 + right, y1 / 100 + _MARGIN)


def _svg(figure: Figure) -> str:
    target = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "mfrlib"}):
        figure.savefig(target, format="svg", dpi=160, transparent=True, metadata={"Date": None})
    # A page is lighter for it: coordinates to a hundredth of a point, finer than any screen, and no idle white space.
    drawn = re.sub(r'(?<= [dxy]=")[^"]*', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), target.getvalue())
    drawn = re.sub(r'(?<= d=")[^"]*', lambda found: re.sub(r"\s*([A-Za-z])\s*", r"\1", found[0]), drawn)
    return re.sub(r">\s+<", "><", drawn)


def _with_views(content: str, figure: Figure, rows: Sequence[Sequence[Bbox]]) -> str:
    """Name the views of an SVG, and let ink and grid have the colours of dark pages in those whose name ends on "dark"."""
    for colour, (name, _) in DARK.items():
        content = content.replace(colour, f"var(--{name})")
    light, dark = (";".join(f"--{name}:{pair}" for name, pair in looks) for looks in _looks())
    views = '<view id="dark"/>'
    for number, box in enumerate(box for row in rows for box in row):
        seen = " ".join(f"{72 * one:.1f}" for one in (box.x0, figure.get_figheight() - box.y1, box.width, box.height))
        views += "".join(f'<view id="{number}{look}" viewBox="{seen}"/>' for look in ("", "-dark"))
    style = f'<style>svg{{{light}}}view[id$="dark"]:target~*{{{dark}}}</style>'
    return re.sub(r"(<svg\b[^>]*>)", lambda found: found[0] + style + views, content, count=1)


def _looks() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the colours of light and of dark pages by name."""
    return [(name, colour) for colour, (name, _) in DARK.items()], list(DARK.values())
