"""The ledger: the rule, every row of the papers' claims, and verdicts that follow the runs."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from mfrbook.chapters.synthetic.questions import runs as questions
from mfrbook.experiments.conditions import threshold, treated_name
from mfrbook.experiments.evidence import Evidence, Untested
from mfrbook.ledger import claims, measures
from mfrbook.ledger.measures import MEASURES
from mfrbook.ledger.verdicts import load_claims, row_of
from mfrbook.store.provenance import PROJECT
from mfrlib.config import ConfigError

ROWS = load_claims()
PAPER_CLAIMS = {
    f"{letter}{i}" for letter, last in (("S", 11), ("G", 6), ("E", 4), ("D", 5)) for i in range(1, last + 1)
}
QUESTIONS = {f"Q{i}" for i in range(1, 20) if i not in (16, 19)} | {"Q16m", "Q19m"}
BOTH_READINGS = ("S1", "S2", "S3", "S3w", "S4", "S5", "S6", "S7", "S8", "S10", "S11")


def test_every_claim_and_question_has_its_row():
    ids = {row["id"] for row in ROWS}
    assert ids >= PAPER_CLAIMS | QUESTIONS


@pytest.mark.parametrize("name", BOTH_READINGS)
def test_a_claim_is_judged_as_released_first_and_as_printed_beside_it(name):
    by_id = {row["id"]: row for row in ROWS}
    assert by_id[name]["reading"] == "as-released"
    assert by_id[f"{name}-printed"]["reading"] == "as-printed"


def test_a_row_is_measured_or_says_why_not():
    assert [row["id"] for row in ROWS if ("measure" in row) == ("untested" in row)] == []


def test_every_measure_answers_a_claim():
    assert MEASURES.keys() == {row["measure"] for row in ROWS if "measure" in row}


def test_a_scale_is_that_of_the_runs_a_measure_speaks_of():
    asked = {row["measure"]: row["question"] for row in ROWS if "question" in row}
    differing = {name for name in MEASURES if name.startswith(("questions_", "coverage_"))}
    assert asked.keys() == differing  # whose runs differ in size
    found = Evidence("smoke")
    runs = {question: SimpleNamespace(results={"samples": n}) for n, question in enumerate(set(asked.values()), 1)}
    rows = [questions.Row(question, "", 2, 0, run) for question, run in runs.items()]
    found.runs |= {"questions": rows, "coverage": rows}
    for measure, question in asked.items():
        assert found.samples(measure, question) == runs[question].results["samples"]


def test_verdicts_are_not_typed():
    assert not {"verdict", "ours", "ci"} & {name for row in ROWS for name in row}


class Fake:
    """A run with given results and records."""

    def __init__(self, results, inactivity=0.5):
        import numpy as np

        self.results = {"samples": 1000, **results}
        self.config = {"n_features": 32, "d_in": 16}
        self.series = lambda name: (np.arange(3), np.full((3, 2), inactivity))


def evidence(pairs, name="synthetic"):
    found = Evidence("smoke")
    found.runs[name] = pairs
    return found


def test_loss_reduction_is_positive_where_the_penalty_lowers_the_loss():
    runs = {"baseline": Fake({"loss": [1.0, 3.0]}), "penalty": Fake({"loss": [0.5, 1.5]})}
    assert measures.synthetic.loss_reduction(evidence([runs])) == [0.5]


def test_mfr_is_compared_with_reinitialisation_alone_where_both_ran():
    runs = {
        "baseline": Fake({"loss": [9.0]}),
        "reinit": Fake({"loss": [2.0]}),
        "penalty": Fake({"loss": [9.0]}),
        "mfr": Fake({"loss": [1.0]}),
    }
    assert measures.synthetic.loss_reduction(evidence([runs])) == [0.5]


def test_untested_where_the_threshold_was_never_reached():
    runs = {"baseline": Fake({"r": 0.5}), "penalty": Fake({"r": 0.4})}
    runs["baseline"].config |= {"reinit": "off", "reinit_window": 70}
    with pytest.raises(Untested, match="Threshold never reached in the first 70 steps"):
        measures.synthetic.similarity_r_gain(evidence([runs]))


def test_a_ledger_without_runs_says_so_and_trains_nothing(tmp_path):
    rows = claims.ledger("quick")
    assert [row["id"] for row in rows] == [row["id"] for row in ROWS]
    assert {row["verdict"] for row in rows} == {"not tested"}
    assert all(row["reason"] for row in rows)
    assert "runs are missing" in next(row["reason"] for row in rows if row["id"] == "S1")
    assert not list((tmp_path / "store").rglob("run.json"))


def test_the_ledger_on_disk_is_the_ledger_computed(tmp_path):
    rows = claims.write(tmp_path, "smoke")
    stored = json.loads((tmp_path / "claims.json").read_text(encoding="utf-8"))
    assert stored == rows
    for name in ("id", "paper", "ours", "ci", "pi", "n_seeds", "scale", "reading", "stand_in", "verdict", "reason"):
        assert all(name in row for row in stored)


def test_trends_of_distances_are_positive_in_their_claimed_directions():
    runs = {"baseline": Fake({"distance_raw": [0, 1, 3]}), "penalty": Fake({"distance_raw": [0, 3, 2]})}
    for run in runs.values():
        run.config["k"] = [1, 2, 3]
    assert measures.eeg.eeg_distance_rises(evidence([runs], "eeg")) == pytest.approx([2])
    assert measures.eeg.eeg_distance_falls(evidence([runs], "eeg")) == pytest.approx([1])
    assert measures.eeg.eeg_distance(evidence([runs], "eeg")) == pytest.approx([0.5])
    pinned = {name: Fake({"distance": [0, 90.5, 90.5]}) for name in runs}
    with pytest.raises(Untested, match="unit rows only"):
        measures.eeg.eeg_distance(evidence([pinned], "eeg"))
    assert measures.eeg.eeg_distance(evidence([runs, pinned], "eeg")) == pytest.approx([0.5])


@pytest.mark.parametrize("reached", [0, 2, 5])
def test_a_row_on_mfr_says_where_it_is_the_penalty_alone(reached):
    runs = {"baseline": Fake({"loss": [2.0]}), "penalty": Fake({"loss": [1.0]})}
    restarted = {**runs, "reinit": runs["baseline"], "mfr": runs["penalty"]}
    (claim,) = (row for row in ROWS if row["id"] == "S7-first")
    reason = row_of(claim, evidence([runs] * (5 - reached) + [restarted] * reached))["reason"]
    assert ("MFR equals the penalty alone" in reason) is (reached < 5)
    assert ("In 3 of 5 seeds" in reason) is (reached == 2)


@pytest.mark.parametrize(
    ("reached", "name", "said"),
    [
        (0, "penalty", "never reached in the first 100 steps"),
        (2, "penalty", "reached in 2 of 5 seeds"),
        (5, "mfr", "reached"),
    ],
)
def test_what_stands_for_mfr_is_what_every_seed_has(reached, name, said):
    pair = {"baseline": SimpleNamespace(config={"reinit": "off", "reinit_window": 100}), "penalty": None}
    seeds = [pair] * (5 - reached) + [{**pair, "mfr": None}] * reached
    assert (treated_name(seeds), threshold(seeds)) == (name, said)


def test_a_value_that_is_no_number_is_no_verdict():
    runs = [{"baseline": Fake({"loss": [2.0]}), "penalty": Fake({"loss": [loss]})} for loss in (1.0, 1.0, float("nan"))]
    (claim,) = (row for row in ROWS if row["id"] == "S7-first")
    row = row_of(claim, evidence(runs))
    assert (row["verdict"], row["ours"], row["reason"]) == ("not tested", None, "Some runs give no finite value.")


def test_the_summary_names_the_reading_that_reproduces_a_claim_at_its_scale():
    own = {"id": "S7", "claim": "Lower.", "section": "synthetic", "ours": -0.5, "ci": [-0.6, -0.4], "n_seeds": 5}
    own |= {"verdict": "opposite", "scale": 1.0}
    under = {
        "reading": "R9: one to one",
        "ours": 0.05,
        "ci": [0.01, 0.09],
        "n_seeds": 5,
        "verdict": "reproduced",
        "among": 3,
    }
    for name in ("closest", "closest_at_scale"):
        row = {**own, "closest": None, "closest_at_scale": None, name: under}
        said = claims.summary([row], "published")
        assert ("Reproduced under another reading (of 3), R9, one to one: 0.05 [0.01, 0.09], 5 seeds." in said) is (
            name == "closest_at_scale"
        )


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("value: 0.625", "vaule: 0.625", "claims.yaml, S1: unknown key 'vaule'; did you mean 'value'"),
        (
            "measure: similarity_r,",
            "measure: similarity_rr,",
            "claims.yaml, S1-printed: unknown measure 'similarity_rr'; did you mean",
        ),
        ("{id: S2, ", "{id: S1, ", "the id is there twice, given 'S1'"),
        ("{id: S1,", "{", "needs id and claim"),
        ("synthetic:", "mine:", "unknown section 'mine'"),
    ],
)
def test_a_typo_in_the_claims_is_refused(monkeypatch, before, after, words):
    text = (PROJECT / "book" / "mfrbook" / "ledger" / "claims.yaml").read_text()
    assert before in text
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: text.replace(before, after, 1))
    with pytest.raises(ConfigError, match=re.escape(words)):
        load_claims()


def test_eeg_is_held_against_the_language_model():
    lm = {"baseline": Fake({"loss": [2.0, 4.0]}), "penalty": Fake({"loss": [1.0, 3.0]})}
    eeg = {"baseline": Fake({"loss": [2.0, 4.0]}), "penalty": Fake({"loss": [2.0, 5.0]})}
    found = evidence([eeg] * 3, "eeg")
    found.runs["gpt2"] = [lm] * 2
    assert measures.eeg.eeg_gain_below_lm(found) == pytest.approx([0.375 + 0.125] * 2)
    with pytest.raises(Untested, match="before coherence was measured"):
        measures.eeg.eeg_coherence_below_lm(found)
    for run, coherence in ((lm["baseline"], [0.5, 0.7]), (eeg["baseline"], [0.3, 0.3])):
        run.results |= {"coherence": coherence, "coherence_chance": [0.2, 0.2]}
    assert measures.eeg.eeg_coherence_below_lm(found) == pytest.approx([0.3] * 2)
    found.runs["gpt2"] = Untested("3 runs are missing for profile smoke.")
    with pytest.raises(Untested, match="runs are missing"):
        measures.eeg.eeg_gain_below_lm(found)


def test_gains_on_eeg_are_compared_over_k():
    seeds = [{"baseline": Fake({"loss": [2.0, 4.0, 1.0]}), "penalty": Fake({"loss": [1.0, 5.0, 1.0]})}] * 2
    assert measures.eeg.eeg_gain_by_k(evidence(seeds, "eeg")) == pytest.approx([0.5, 0.5])
    assert measures.eeg.eeg_loss_reduction(evidence(seeds, "eeg")) == pytest.approx([0.25 / 3, 0.25 / 3])
    assert measures.eeg.eeg_loss_best_k(evidence(seeds, "eeg")) == pytest.approx([0.5, 0.5])
    assert measures.eeg.eeg_loss_worst_k(evidence(seeds, "eeg")) == pytest.approx([0.25, 0.25])


def test_the_best_k_of_a_seed_is_chosen_by_the_others():
    losses = [[1.0, 4.0, 4.0], [4.0, 2.0, 3.0], [4.0, 2.0, 3.0]]
    seeds = [{"baseline": Fake({"loss": [4.0] * 3}), "penalty": Fake({"loss": one})} for one in losses]
    assert measures.eeg.eeg_loss_best_k(evidence(seeds, "eeg")) == pytest.approx([0, 0, 0])


@pytest.mark.parametrize("row", [row for row in ROWS if "see" in row], ids=lambda row: row["id"])
def test_what_a_row_points_to_is_shown_by_that_notebook(row):
    notebook, _, name = row["see"].partition("#")
    assert f'"{name}"' in "".join(code_of(notebook))


def code_of(notebook):
    found = json.loads((PROJECT / "notebooks" / f"{notebook}.ipynb").read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in found["cells"] if cell["cell_type"] == "code"]
