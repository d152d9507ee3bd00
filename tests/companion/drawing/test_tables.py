"""Tables hold numbers until they are drawn: what is shown is text, what is downloaded is data."""

import io

import numpy as np
import pandas as pd
import pytest

from mfrbook.drawing import report
from mfrbook.drawing.tables import ROOM, Interval, as_data, dense, side_by_side, with_interval
from mfrbook.experiments.conditions import never_reached, treated, treated_name, untreated
from mfrbook.store.runs import Run
from tests.companion.book.made import mixed_columns

TABLE = pd.DataFrame(
    {
        "k": [6, 12, "mean"],
        "condition": ["baseline", "penalty", "–"],
        "change, %": [Interval(-0.5, -0.75, -0.25), Interval(1.5, 1.0, 2.0), "–"],
        "paper, %": ["−21.21", "below 0", None],
        "samples": ["1,000", 2000, float("nan")],
        "cosine": [np.float32(0.5), np.float32("nan"), pd.NA],
    }
)


def test_an_interval_is_read_as_text_and_downloaded_as_numbers():
    assert str(with_interval([1.0, 2.0, 3.0])) == "2 [−0.484, 4.48]"
    shown = report.table_html(TABLE, "table-1", "Caption.", {})
    assert "−0.5 [−0.75, −0.25]" in shown
    data = pd.read_csv(io.StringIO(as_data(TABLE).to_csv(index=False)))
    assert list(data["change, %"].dropna()) == [-0.5, 1.5]
    assert list(data["change, % low"].dropna()) == [-0.75, 1.0]
    assert list(data["change, % high"].dropna()) == [-0.25, 2.0]


def test_every_column_of_the_data_holds_numbers_or_words():
    data = pd.read_csv(io.StringIO(as_data(TABLE).to_csv(index=False)))
    assert mixed_columns(data) == []
    assert list(data["k"].dropna()) == [6, 12]
    assert list(data["k (words)"].dropna()) == ["mean"]
    assert list(data["condition"].dropna()) == ["baseline", "penalty"]
    assert list(data["paper, %"].dropna()) == [-21.21]
    assert list(data["paper, % (words)"].dropna()) == ["below 0"]
    assert list(data["samples"].dropna()) == [1000, 2000]


@pytest.mark.parametrize("cell", ["1.5", "−0.12 [−0.15, −0.09]", "12 %", "1,024"])
def test_a_number_among_words_is_found(cell):
    assert mixed_columns(pd.DataFrame({"value": ["none", cell]})) == ["value"]


def test_a_bound_without_the_other_is_found():
    assert mixed_columns(pd.DataFrame({"value": [1.0], "value low": [0.5]})) == ["value"]


def test_mfr_is_one_condition_for_all_seeds():
    """Where only some seeds reach the threshold, MFR is the penalty alone for the ledger as for the tables."""
    every = {"baseline": "b", "reinit": "r", "penalty": "p", "mfr": "m"}
    some = {"baseline": "b", "penalty": "p"}
    assert (treated_name([every]), treated([every, every]), untreated([every])) == ("mfr", ["m", "m"], ["r"])
    assert (treated_name([every, some]), treated([every, some])) == ("penalty", ["p", "p"])
    assert untreated([every, some]) == ["b", "b"]


def test_a_wide_table_is_shown_in_parts_that_fit_and_nothing_is_lost():
    names = [f"some measure of condition {n}" for n in range(9)]
    wide = pd.DataFrame({"k": [6, 12, 18, 24]} | dict.fromkeys(names, -0.123456) | {"change of loss, %": 1.0})
    parts = side_by_side(wide)
    assert len(parts) > 1
    assert [list(one["k"]) for one in parts] == [["6", "12", "18", "24"]] * len(parts)
    assert list(parts[0])[1] == "change of loss, %", "what readers came for is first"
    assert {name for one in parts for name in one} == set(wide)
    assert set(parts[-1][names[-1]]) == {"−0.1235"}
    for one in parts:
        assert sum(max(map(len, (*one[name], *name.split()))) for name in one) <= ROOM


def test_a_wide_table_of_few_rows_is_turned():
    wide = pd.DataFrame({"data": ["eeg"]} | {f"some measure number {n}": [n] for n in range(20)})
    (turned,) = side_by_side(wide)
    assert list(turned) == ["data", "eeg"]
    assert list(turned["data"]) == list(wide)[1:]


def test_a_narrow_table_stays_whole():
    (whole,) = side_by_side(TABLE[["k", "condition"]])
    assert whole.shape == (3, 2)


def test_dense_features_are_those_active_on_more_than_a_tenth():
    def run(rates, loss):
        return Run("gpt2", {"k": [2, 4]}, "test", {"loss": loss}, arrays={"rate": np.array(rates)})

    baseline = run([[0.1, 0.2, 0.3], [0.0, 0.5, 0.01]], [2.0, 1.0])
    penalty = run([[0.0, 0.0, 0.11], [0.2, 0.3, 0.9]], [1.0, 1.5])
    table = dense([{"baseline": baseline, "penalty": penalty}] * 2, "penalty")
    counts = table[["dense features, baseline", "dense features, penalty", "change of loss, %"]].map(
        lambda one: one.middle
    )
    assert counts.to_numpy().tolist() == [[2, 1, -50], [1, 3, 50]]
    assert table["k"].tolist() == [2, 4]


@pytest.mark.parametrize(
    ("reinit", "said"),
    [("off", "in the first 70 steps"), ("window", "in the first 70 steps"), ("always", "at any step")],
)
def test_never_is_said_of_the_steps_looked_at(reinit, said):
    run = Run("synthetic", {"reinit": reinit, "reinit_window": 70}, "test", {})
    assert never_reached(run) == f"never reached {said}"
