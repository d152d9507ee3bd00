"""A figure as one file: what a phone shows of it, part by part, is all of it, at a size that can be read."""

import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from mfrbook.drawing.picture import parts, picture
from mfrbook.drawing.style import PHONE, new_axes


def drawn(columns: int, rows: int = 1, **options) -> Figure:
    figure, axes = new_axes(columns, rows, squeeze=False, **options)
    for place, ax in enumerate(axes.flat):
        ax.plot([0, 1], [0, 10 * (1 if options.get("sharey") else place + 1)], label=f"line {place}")
        ax.set(title=f"Panel {place}", xlabel="x", ylabel="y" if place % columns == 0 else "")
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center")
    return figure


def boxes(figure: Figure) -> list[tuple[float, float, float, float]]:
    """Return where each axes and the legend lie, in inches."""
    renderer = figure.canvas.get_renderer()
    artists = [*figure.axes, *figure.legends]
    return [np.array(one.get_tightbbox(renderer).extents) / 100 for one in artists]


@pytest.mark.parametrize(
    ("columns", "rows", "options"),
    [(2, 1, {}), (3, 1, {"sharey": True}), (2, 2, {"sharex": True, "sharey": True}), (2, 2, {}), (5, 1, {})],
)
def test_parts_show_every_panel_and_the_legend_and_fit_a_phone(columns, rows, options):
    figure = drawn(columns, rows, **options)
    found = parts(figure)
    assert len(found) > 1
    for x0, y0, x1, y1 in boxes(figure):
        inside = [
            box
            for row in found
            for box in row
            if box.x0 <= x0 + 0.2 and box.x1 >= x1 - 0.2 and box.y0 <= y0 + 0.1 and box.y1 >= y1 - 0.1
        ]
        assert len(inside) == 1
    assert max(sum(box.width for box in row) for row in found) <= PHONE


def test_a_part_without_labels_of_its_y_axis_has_those_of_its_neighbour():
    rows = parts(drawn(2, sharey=True, height=3.0))
    assert [len(row) for row in rows] == [1, 2, 1]  # the first panel, the second with labels before it, the legend
    labels, panel = rows[1]
    assert labels.x1 < rows[0][0].x1 < panel.x1
    assert [len(row) for row in parts(drawn(2, height=3.0))] == [1, 1, 1]


def test_panels_that_share_an_x_axis_stay_above_each_other():
    rows = parts(drawn(2, 2, sharex=True, height=5.0))
    assert rows[0][0].height > 4
    separate = parts(drawn(2, 2, height=5.0))
    assert max(box.height for row in separate for box in row) < 3


def test_a_figure_that_fits_is_not_cut():
    assert parts(drawn(1)) == []
    assert picture(drawn(1), "A line that rises to the right.").count("<img") == 2


def test_every_image_after_the_first_is_a_view_of_its_file():
    from base64 import b64decode

    sources = re.findall(r'src="([^"]+)"', picture(drawn(3), "Three lines that rise to the right."))
    content = b64decode(sources[0].split("base64,")[1]).decode()
    named = re.findall(r'<view id="([^"]+)"', content)
    assert [one[1:] for one in sources[1:]] == ["dark", *named[1:]]
    assert len(named) == len(set(named)) > 6


def test_no_legend_is_cut_off():
    figure, ax = new_axes()
    for number in range(4):
        ax.plot([0, 1], label=f"four times the weight, without a warm-up, {number} seeds")
    legend = figure.legend(loc="outside lower center", ncols=2)
    figure.draw_without_rendering()
    assert legend.get_window_extent().width > figure.bbox.width
    picture(figure, "A legend.")
    box = legend.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width
