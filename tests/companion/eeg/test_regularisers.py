"""What MFR is held against on EEG: each opponent differs from the baseline in one thing, and has no penalty."""

import json
from dataclasses import asdict

import pytest

from mfrbook.chapters.eeg import measures
from mfrbook.chapters.eeg import runs as eeg
from mfrbook.chapters.eeg.opponents import regularisers, tables
from mfrbook.experiments.evidence import Evidence, Untested
from mfrbook.experiments.planned import plan
from mfrbook.performance import course
from mfrbook.performance.timings import Timings
from mfrbook.store.provenance import PROJECT
from mfrbook.store.runs import Run

CHANGED = {"weight decay": {"weight_decay"}, "dropped inputs": {"input_dropout"}, "more steps": {"steps"}}


@pytest.mark.parametrize("name", regularisers.ROWS)
def test_an_opponent_differs_from_the_baseline_in_what_it_says_alone(name):
    base = eeg.configure({"describe": False, "alpha": 0.0, "seed": 1}, "published")
    changed = asdict(regularisers.opponent(base, name))
    assert {field for field, value in asdict(base).items() if changed[field] != value} == CHANGED[name]


def test_more_steps_take_as_long_as_the_penalty_was_measured_to_take():
    measured = json.loads((PROJECT / "book" / "results" / "performance.json").read_text(encoding="utf-8"))
    penalty = course.numbers(Timings(**measured["cpu"]))["EEG_of_step"]
    assert 0.8 * regularisers.MORE_STEPS < 1 + penalty <= regularisers.MORE_STEPS


def test_vectors_of_all_channels_have_no_cosine_transform_to_compare():
    evidence = Evidence("smoke", {"channels": "joint"})
    for measure in (measures.transforms_dct, measures.transforms_pursuit):
        with pytest.raises(Untested, match="of single channels"):
            measure(evidence)


def test_it_asks_for_the_section_s_own_runs_and_the_opponents():
    values = {"profile": "smoke", "n_seeds": 2, "data": ""}
    section, asked = ({one.key: one for one in plan([name], values)} for name in ("eeg", "eeg-regularisers"))
    assert section.keys() <= asked.keys()
    assert len(asked) - len(section) == 2 * len(regularisers.ROWS)


def seeds():
    losses = {
        "baseline": [4.0, 2.0],
        "penalty": [2.0, 1.0],
        "weight decay": [4.0, 2.0],
        "dropped inputs": [1.0, 1.0],
        "more steps": [3.0, 1.0],
    }

    def run(name, seed):
        return Run("eeg", {"k": [12, 24], "seed": seed}, "test", {"loss": losses[name], "dead": [0.5, 0.25]})

    return [{name: run(name, seed) for name in losses} for seed in range(3)]


def test_what_is_measured_is_how_much_lower_mfr_ends():
    evidence = Evidence("published")
    evidence.runs["eeg-regularisers"] = seeds()
    assert measures.opponents_weight_decay(evidence) == pytest.approx([0.5] * 3)
    assert measures.opponents_dropped_inputs(evidence) == pytest.approx([-0.5] * 3)
    assert measures.opponents_more_steps(evidence) == pytest.approx([1 / 6] * 3)


def test_the_table_has_a_row_for_each_opponent_and_for_mfr():
    table = tables.regularisers(seeds(), "penalty")
    assert table["run"].tolist() == [*regularisers.ROWS, "penalty"]
    assert table["penalty against it, %, mean over k"].iloc[-1] == "–"
