"""The rule of verdicts: its table, and what must hold of any values."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mfrbook.drawing.statistics import binomial_interval, interval, prediction_interval
from mfrbook.ledger import rule
from mfrbook.ledger.rule import Effect, effect_of, of_direction, of_level, of_question

CLOSE = [1.0, 1.1, 0.9, 1.05, 0.95]
WIDE = [0.2, 1.8, 1.0, 0.3, 1.7]  # its mean is surely positive, one more run is not
NUMBERS = st.lists(st.floats(-10, 10), min_size=5, max_size=12)


@pytest.mark.parametrize(
    ("values", "value", "expected"),
    [
        (CLOSE, None, "reproduced"),
        (CLOSE, 1.0, "reproduced"),
        (CLOSE, 1.2, "reproduced"),  # outside the interval of the mean, but what one more run may give
        (CLOSE, 2.0, "same direction, smaller"),
        (CLOSE, 0.5, "same direction, larger"),
        (WIDE, 1.0, "same direction"),
        (WIDE, 9.0, "same direction, smaller"),
        ([1.0, -1.1, 0.9, -1.05, 0.95], 1.0, "cannot tell"),
        ([0.0] * 5, 15, "cannot tell"),
        ([-one for one in CLOSE], 1.0, "opposite"),
        (CLOSE[:4], 1.0, "cannot tell"),
        (CLOSE[:1], None, "cannot tell"),
    ],
)
def test_the_table_of_the_rule(values, value, expected):
    assert of_direction(effect_of(values), value)[0] == expected


def test_a_stand_in_is_held_to_the_direction_only():
    for value in (None, 1.0, 9.0):
        assert of_direction(effect_of(CLOSE), value, stand_in=True)[0] == "same direction"
    assert of_direction(effect_of([-one for one in CLOSE]), 1.0, stand_in=True)[0] == "opposite"
    assert of_level(effect_of(CLOSE), 2, stand_in=True)[0] == "same direction"


def test_values_that_are_no_runs_foretell_no_run():
    effect = effect_of(CLOSE, runs=False)
    assert effect.pi is None
    assert of_direction(effect, 1.0)[0] == "same direction"
    assert of_direction(effect, None)[0] == "reproduced"


@pytest.mark.parametrize(
    ("values", "margin", "level", "side", "expected"),
    [
        (CLOSE, 2, 0, "both", "reproduced"),
        (CLOSE, 0.5, 0, "both", "opposite"),
        (CLOSE, 1.0, 0, "both", "cannot tell"),
        (CLOSE, 0.5, 1, "both", "reproduced"),
        (CLOSE, 0.1, 0, "below", "reproduced"),  # a gain is no cost
        ([-one for one in CLOSE], 0.1, 0, "below", "opposite"),
        ([-one for one in CLOSE], 1.0, 0, "below", "cannot tell"),
        (CLOSE[:4], 2, 0, "both", "cannot tell"),
    ],
)
def test_a_claim_of_a_level_is_held_to_its_margin(values, margin, level, side, expected):
    assert of_level(effect_of(values), margin, level, side)[0] == expected


def test_questions_are_answered():
    assert of_question(effect_of(CLOSE[:3]))[0] == "yes"
    assert of_question(effect_of([-one for one in CLOSE]))[0] == "no"
    assert of_question(effect_of(CLOSE[:2]))[0] == "cannot tell"
    assert of_question(effect_of([1.0, -1.0, 0.5]))[0] == "cannot tell"


def test_a_share_has_its_exact_interval_and_too_few_units_are_named():
    share = effect_of([1, 0, 1, 1], over="SAEs", binomial=True)
    assert (share.middle, share.pi, share.ci) == (0.75, None, binomial_interval(3, 4))
    assert of_direction(share)[1] == "4 SAEs; the rule asks for 5."
    assert of_question(effect_of([1.0], over="runs"))[1] == "1 run; a question asks for 3."
    assert of_question(effect_of(CLOSE), amount=True)[0] == "answered"


def test_correlations_are_averaged_as_fishers_z():
    r = [0.5, 0.6, 0.55, 0.7, 0.52]
    effect = effect_of(r, correlation=True)
    assert effect.middle == pytest.approx(np.tanh(np.mean(np.arctanh(r))))
    assert effect == effect_of(np.arctanh(r), fisher=True)
    assert -1 < effect.pi[0] < effect.ci[0] < effect.ci[1] < effect.pi[1] < 1


def test_one_more_value_lies_in_the_prediction_interval_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(size=(4000, 6))
    hits = [low <= row[5] <= high for row in draws for low, high in [prediction_interval(row[:5])]]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.012)


@given(NUMBERS, st.floats(-10, 10), st.randoms())
def test_the_order_of_the_seeds_changes_nothing(values, value, random):
    shuffled = random.sample(values, len(values))
    first, second = (of_direction(effect_of(sorted(one)), value)[0] for one in (values, shuffled))
    assert first == second


@given(NUMBERS)
def test_the_other_sign_is_the_other_side(values):
    low, high = effect_of(values).ci
    assume(abs(low) > 1e-9 and abs(high) > 1e-9)
    other = {"reproduced": "opposite", "opposite": "reproduced", "cannot tell": "cannot tell"}
    answer = {"yes": "no", "no": "yes", "cannot tell": "cannot tell"}
    turned = effect_of([-one for one in values])
    assert of_direction(turned)[0] == other[of_direction(effect_of(values))[0]]
    assert of_question(turned)[0] == answer[of_question(effect_of(values))[0]]


@given(NUMBERS, st.floats(0.1, 10), st.floats(0.01, 100))
def test_the_unit_changes_nothing(values, value, unit):
    low, high = effect_of(values).ci
    assume(abs(low) > 1e-6 and abs(high) > 1e-6 and min(abs(one - value) for one in effect_of(values).pi) > 1e-6)
    assume(abs(effect_of(values).pi[0]) > 1e-6)
    scaled = effect_of([unit * one for one in values])
    assert of_direction(scaled, unit * value)[0] == of_direction(effect_of(values), value)[0]


@given(st.floats(-5, 5), st.floats(0, 3), st.floats(0, 3), st.floats(0, 3), st.one_of(st.none(), st.floats(0.1, 5)))
def test_a_wider_interval_never_decides_what_a_narrower_one_leaves_open(middle, half, wider, beyond, value):
    def at(width):
        return Effect(middle, (middle - width, middle + width), (middle - width - beyond, middle + width + beyond), 5)

    def sides(width):
        yield of_direction(at(width), value)[0]
        yield of_level(at(width), 1)[0]
        yield of_level(at(width), 1, side="below")[0]
        yield of_question(at(width))[0]

    for narrow, wide in zip(sides(half), sides(half + wider), strict=True):
        if narrow == rule.CANNOT_TELL:
            assert wide == rule.CANNOT_TELL
        assert (narrow == rule.OPPOSITE) or (wide != rule.OPPOSITE)
        if narrow == rule.OPPOSITE:
            assert wide in (rule.OPPOSITE, rule.CANNOT_TELL)
        if narrow in (rule.YES, rule.NO):
            assert wide in (narrow, rule.CANNOT_TELL)
    if value is None:  # then nothing but `cannot tell` is weaker
        assert of_direction(at(half + wider))[0] in (of_direction(at(half))[0], rule.CANNOT_TELL)


@given(NUMBERS)
def test_the_prediction_interval_holds_the_confidence_interval(values):
    _, low, high = interval(np.array(values))
    least, most = prediction_interval(np.array(values))
    assert least <= low + 1e-12
    assert high <= most + 1e-12
