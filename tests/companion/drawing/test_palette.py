"""Colours that everyone can tell apart, on a white page and on a dark one."""

import itertools

import numpy as np
import pytest

from mfrbook.drawing.palette import GREY, MARKED, PAPER, STYLE, ramp

PAGE = ("#ffffff", "#14181e")  # backgrounds of the theme, light and dark
# Machado et al. 2009, complete deficiency: what a linear colour looks like.
SEEN = {
    "usual": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
FIGURES = [
    ("baseline", "penalty", "reinit", "mfr"),
    ("baseline", "penalty", "longer"),
    ("local", "e2e", "downstream", "e2e-mfr"),
    ("penalty", "reverse maximum", "α as released", "as released"),
]


def linear(colour):
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    light = sorted(float(XYZ[1] @ linear(colour)) for colour in (one, other))
    return (light[1] + 0.05) / (light[0] + 0.05)


def lab(rgb):
    x = np.clip(XYZ @ np.clip(rgb, 0, 1), 0, None) / [0.9505, 1, 1.089]
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("page", PAGE)
def test_every_colour_stands_out_from_the_page(page):
    colours = {one for _, one, _, _ in STYLE.values()} | {PAPER, MARKED, GREY, *ramp(5)}
    assert {colour: round(contrast(colour, page), 2) for colour in colours if contrast(colour, page) < 3} == {}


@pytest.mark.parametrize("matrix", SEEN.values(), ids=SEEN)
@pytest.mark.parametrize("conditions", FIGURES)
def test_the_conditions_of_a_figure_are_told_apart(conditions, matrix):
    seen = [lab(np.array(matrix) @ linear(STYLE[name][1])) for name in conditions]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 15


@pytest.mark.parametrize("conditions", FIGURES)
def test_they_differ_without_colour_too(conditions):
    assert len({STYLE[name][2:] for name in conditions}) == len(conditions)


def test_the_paper_has_a_colour_of_its_own():
    assert PAPER not in {one for _, one, _, _ in STYLE.values()} | {MARKED, *ramp(9)}
