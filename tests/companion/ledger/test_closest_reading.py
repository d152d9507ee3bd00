"""What other runs say of a claim: which reading comes closest."""

from types import SimpleNamespace

import pytest

from mfrbook.chapters.synthetic import runs as synthetic
from mfrbook.chapters.synthetic.questions import runs as questions
from mfrbook.chapters.synthetic.readings import Row
from mfrbook.ledger.closest_reading import Source, as_released, by_reading, closest, presets, switched
from mfrbook.store.runs import describe_config

BASELINE = {"r": 0.3, "loss": [1.0], "mmcs_input": [0.5], "samples": 60}


def row(reading, choice, results, seed=0, **changes):
    config = synthetic.SyntheticConfig(seed=seed, **changes)
    return Row(reading, choice, seed, SimpleNamespace(config=describe_config(config), results=BASELINE | results))


ROWS = [
    row("default", "no penalty", {}),
    row("R5", "raw decoder", {"r": 0.9}, decoder="raw"),
    row("R9", "max", {"mmcs_input": [0.4]}, alpha=3.0),
    row("R9", "Hungarian", {"mmcs_input": [0.7]}, alpha=3.0, matching="hungarian"),
    row("R10", "threshold 0.5", {"r": 0.35}, reinit="window", reinit_threshold=0.5),
    row("R12", "sum", {"mmcs_input": [0.99]}, alpha=3.0, reduction="sum"),
    row("Q9", "centred data", {"r": 0.62}, center=True),
]


def test_a_reading_of_the_penalty_stands_beside_its_own_baseline():
    found = by_reading(ROWS)
    assert found["R9: max"][0].keys() == {"baseline", "penalty"}
    assert found["R9: max"][0]["baseline"] is ROWS[0].run
    assert found["R10: threshold 0.5"][0].keys() == {"baseline", "reinit"}
    assert found["R5: raw decoder"][0]["baseline"] is ROWS[1].run
    assert "R12: sum" not in found, "no run without penalty has its reduction"
    assert "Q9: centred data" not in found, "a cure is no reading of the paper"


def test_seeds_are_not_mixed():
    found = by_reading([*ROWS, row("R9", "max", {}, seed=1, alpha=3.0)])
    assert len(found["R9: max"]) == 1


def test_a_baseline_from_before_a_field_was_there_is_one_all_the_same():
    old = row("default", "no penalty", {}, seed=1)
    for name in ("weight_decay", "revival", "revival_k"):
        old.run.config.pop(name)
    found = by_reading([old, row("R9", "max", {}, seed=1, alpha=3.0)])
    assert found["R9: max"][0]["baseline"] is old.run


@pytest.mark.parametrize(
    ("measure", "value", "reading", "effect"),
    [
        ("similarity_r", 0.31, "default: no penalty", 0.3),  # which the readings of the penalty do not change
        ("similarity_r", 0.7, "R5: raw decoder", 0.9),
        ("similarity_r_gain", 0.043, "R10: threshold 0.5", 0.05),
        ("input_similarity_gain", None, "R9: Hungarian", 0.2),
        ("input_similarity_gain", -0.1, "R9: max", -0.1),
    ],
)
def test_the_closest_is_nearest_to_the_papers_value_or_farthest_on_its_side(measure, value, reading, effect):
    found = closest(measure, value, [Source(ROWS, 1, "here#it")])
    assert found.reading == reading
    assert found.values == pytest.approx([effect])
    assert (found.samples, found.see, found.value) == (60, "here#it", value)
    assert 1 <= found.among <= len(ROWS)


def test_few_runs_that_scatter_do_not_stand_before_many_that_agree():
    gains = {"R9": (0.09, 0.10, 0.11), "R11": (-0.2, 0.2, 0.4)}
    rows = [row("default", "no penalty", {"mmcs_input": [0.5]}, seed=seed) for seed in range(3)]
    rows += [
        row(reading, "x", {"mmcs_input": [0.5 + gain]}, seed=seed, alpha=3.0, warmup=len(reading))
        for reading, each in gains.items()
        for seed, gain in enumerate(each)
    ]
    found = closest("input_similarity_gain", None, [Source(rows, 1, "")])
    assert (found.reading, found.values) == ("R9: x", pytest.approx([0.09, 0.10, 0.11]))


def test_without_a_run_that_answers_there_is_none():
    assert closest("similarity_r_gain", 0.043, [Source(ROWS[:2], 1, "")]) is None
    assert closest("similarity_r", 0.6, []) is None


def test_runs_of_another_size_are_compared_in_the_papers_unit():
    large = [row("default", "no penalty", {"r": 14}), row("R5", "raw decoder", {"r": 3}, decoder="raw")]
    small = [row("default", "no penalty", {"r": 3}), row("R5", "raw decoder", {"r": 4}, decoder="raw")]
    found = closest("similarity_r", 15, [Source(large, 1, "large"), Source(small, 0.25, "small")])
    assert (found.values, found.see) == ([14], "large")
    found = closest("similarity_r", 16.5, [Source(large, 1, "large"), Source(small, 0.25, "small")])
    assert (found.values, found.value, found.see) == ([4], 16.5 / 4, "small")


def test_the_questions_runs_stand_beside_their_own_baseline():
    sized = {"steps": 15_000, "batch_size": 25_000}
    found = by_reading(
        switched(
            questions.Row(
                question,
                choice,
                2,
                0,
                row("", "", {}, **{name: sized.get(name, one) for name, one in changes.items()}).run,
            )
            for question in (questions.CENTRED, questions.SWITCHES)
            for choice, changes in questions.SWITCHED.items()
        )
    )
    assert [name.partition(":")[0] for name in found] == ["R9"]
    [[runs]] = found.values()
    assert runs.keys() == {"baseline", "penalty"}


def test_the_default_preset_is_the_main_runs_and_no_reading():
    rows = [row("default", "paper, α = 0", {}), row("R1", "one-group, α = 0", {}, n_active=3)]
    assert list(by_reading(presets(rows))) == ["R1: one-group, α = 0"]


def test_the_released_preset_is_taken_whole():
    """Its gain is over re-initialisation alone, as the claim has it, not over the baseline."""
    values = {"baseline": 0.1, "reinit": 0.5, "penalty": 0.2, "mfr": 0.9, "centred": 5.0}
    rows = [
        SimpleNamespace(
            cell=cell, seed=seed, run=SimpleNamespace(config={}, results={"mmcs_input": [value], "samples": 7})
        )
        for seed in (0, 1)
        for cell, value in values.items()
    ]
    found = closest("input_similarity_gain", None, [Source(ROWS, 1, "few"), Source([], 1, "cells", as_released(rows))])
    assert (found.see, found.samples) == ("cells", 7)
    assert found.values == pytest.approx([0.4, 0.4])
