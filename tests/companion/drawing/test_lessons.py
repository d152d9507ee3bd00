"""The figure of what was learned shows what the ledger says, in the direction that its axis names."""

import json

import pytest

from mfrbook.drawing.lessons import SHOWN, lessons, shown
from mfrbook.drawing.palette import condition_of
from mfrbook.drawing.style import typeset
from mfrbook.ledger.wording import worded
from mfrbook.store.provenance import PROJECT

LEDGER = json.loads((PROJECT / "book" / "results" / "claims.json").read_text(encoding="utf-8"))
ROWS = {row["id"]: row for row in LEDGER}


def test_every_effect_is_that_of_its_row():
    table = shown(LEDGER).set_index("claim")
    assert set(table.index) == {name for effects in SHOWN.values() for name, *_ in effects}
    for claim, row in table.iterrows():
        assert abs(row["effect"]) in (
            pytest.approx(abs(ROWS[claim]["ours"])),
            pytest.approx(100 * abs(ROWS[claim]["ours"])),
        )
        assert row["low"] <= row["effect"] <= row["high"]


@pytest.mark.parametrize(("claim", "lower"), [("E1", True), ("E1s", False), ("G1ma", True), ("G1mz", True)])
def test_a_loss_that_falls_is_below_zero(claim, lower):
    falls = (ROWS[claim]["ours"] > 0) != (claim == "G1mz")  # the one row that speaks of a rise
    assert (shown(LEDGER).set_index("claim")["effect"][claim] < 0) == falls == lower


def test_the_papers_number_has_the_sign_of_the_effect_beside_it():
    found = shown(worded(LEDGER)).set_index("claim")["paper"].dropna()
    assert dict(found) == pytest.approx(
        {
            "S7": -2.4,
            "S7-printed": -2.4,
            "G1m": -5.66,
            "G1ma": -21.21,
            "G1mz": 7.89,
            "G1ma-released": -21.21,
            "G1mz-released": 7.89,
            "G1s": -5.66,
            "E1": -1.8,
        }
    )


def test_what_was_not_measured_is_left_out():
    rows = [row for row in LEDGER if row["id"] in ("Q9f", "E1")]
    assert list(shown(rows)["claim"]) == ["Q9f", "E1"]
    assert "EEG" not in lessons(rows).sees
    assert shown([]).empty


@pytest.mark.parametrize(
    ("choice", "condition"),
    [
        ("baseline, longer", "baseline"),
        ("penalty, one to one", "penalty"),
        ("centred, α = 3", "centred"),
        ("no penalty", "baseline"),
        ("one-group, α = 0", "baseline"),
        ("mean, α = 3/64", "penalty"),
        ("α calibrated", "penalty"),
    ],
)
def test_a_choice_has_the_colour_of_its_condition(choice, condition):
    assert condition_of(choice) == condition


def test_numbers_of_a_caption_are_typeset():
    assert typeset("-3 % of 62%, k-means, 1e-3, 2-4") == "−3 % of 62\u00a0%, k-means, 1e-3, 2-4"
