"""Probes: they agree with their records, they report planted faults, and marks of behaviour decide which runs are stale."""

import json
from dataclasses import replace

import pytest
import torch

from mfrbook.book.edition import Edition
from mfrbook.chapters import registry
from mfrbook.chapters.denoising import runs as denoising
from mfrbook.chapters.eeg import runs as eeg
from mfrbook.chapters.eeg import transforms
from mfrbook.chapters.end_to_end import stability
from mfrbook.chapters.synthetic import runs as synthetic_runs
from mfrbook.chapters.synthetic.questions import coverage, groups
from mfrbook.chapters.tiny_lm import recipe as tiny_lm
from mfrbook.probes import cases, compare, recompute, record
from mfrbook.store import behaviour
from mfrbook.store.provenance import PROJECT
from mfrbook.store.runs import Run
from mfrlib import config
from mfrlib.data import synthetic as synthetic_data
from mfrlib.data.eeg import preprocessing as eeg_preprocessing
from mfrlib.data.eeg import windows as eeg_windows
from mfrlib.data.text import sequences
from mfrlib.denoising import noisy_windows
from mfrlib.language_models import activations, end_to_end
from mfrlib.method import penalty
from mfrlib.training import config as training_config
from mfrlib.training import loop as training
from mfrlib.training import state as training_state
from tests.companion.book.made import up_to_date

ELSEWHERE = ["instructions AVX2 there, AVX512 here"]


def recorded(experiment, name):
    stored = json.loads((recompute.RECORDS / f"{experiment}.json").read_text())["probes"][name]
    return compare.Record(record.from_json(stored["numbers"]), stored["texts"], stored["rounding"])


def judged(experiment, name):
    """Judge a probe computed in this process, with as much rounding allowed as on another machine."""
    found = recompute.one(experiment, name)
    return compare.judge(recorded(experiment, name), record.from_json(found["numbers"]), found["texts"], ELSEWHERE)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_every_experiment_has_probes_and_every_probe_a_record():
    assert set(cases.CASES) == set(registry.NAMES) == set(behaviour.BEHAVIOUR)
    assert {name for share in recompute.SHARES for name in share} == set(cases.CASES)
    for experiment, probes in cases.CASES.items():
        stored = json.loads((recompute.RECORDS / f"{experiment}.json").read_text())
        assert list(stored["probes"]) == list(probes)
        assert stored["behaviour"] == behaviour.BEHAVIOUR[experiment]


def recomputed():
    """Judge every probe computed in this process, by the rule for this machine."""
    for experiment, probes in cases.CASES.items():
        stored = json.loads((recompute.RECORDS / f"{experiment}.json").read_text())
        others = compare.differing(stored["machine"], recompute.kind())
        for name in probes:
            found = recompute.one(experiment, name)
            numbers = record.from_json(found["numbers"])
            verdict, reason = compare.judge(recorded(experiment, name), numbers, found["texts"], others)
            yield compare.Judged(experiment, name, verdict, reason)


def test_today_s_code_behaves_as_recorded(request):
    """By the spot checks of `make book` where it has made them from what is here now, else anew."""
    checked = Edition(PROJECT, "published").site / "spot-checks.json"
    there = up_to_date(PROJECT) and checked.is_file()
    if not there and not request.config.getoption("--slow"):
        pytest.skip("slow where `make book` has not checked this code: run with --slow, or `mfr probes`")
    found = [compare.Judged(**one) for one in json.loads(checked.read_text())] if there else list(recomputed())
    assert [one.line() for one in found if one.verdict == "changed"] == []
    assert len(found) == sum(map(len, cases.CASES.values()))


def flipped(monkeypatch):
    pull = penalty.mutual_feature_penalty
    monkeypatch.setattr(training_state, "mutual_feature_penalty", lambda *arguments: 2 - pull(*arguments))


def without_warmup(monkeypatch):
    monkeypatch.setattr(training, "warmup", lambda step, n_steps: 1.0)


def swapped_matching(monkeypatch):
    monkeypatch.setattr(penalty, "hungarian_match", penalty.best_match)


def one_power(monkeypatch):
    plain = training.inactivity
    monkeypatch.setattr(training, "inactivity", lambda rates, k, power: plain(rates, k, 1))


def other_edge(module):
    def plant(monkeypatch):
        other = lambda **fields: eeg_preprocessing.Preprocessing(**{"high": 44.0, **fields})  # noqa: E731
        monkeypatch.setattr(module, "Preprocessing", other)
        monkeypatch.setattr(denoising, "_LONG", other(seconds=4.0))

    return plant


def constant(module, name, value):
    return lambda monkeypatch: monkeypatch.setattr(module, name, value)


def other_order(monkeypatch):
    plain = eeg_windows.shuffled
    monkeypatch.setattr(eeg_windows, "shuffled", lambda at, n, seed, epoch: plain(at, n, seed + 1, epoch))


def turned_divergence(monkeypatch):
    def turned(original, new):
        p, q = original.log_softmax(-1), new.log_softmax(-1)
        return (q.exp() * (q - p)).sum(-1).mean(-1)

    monkeypatch.setattr(end_to_end, "kl_divergence", turned)


def fewer_cosines(monkeypatch):
    plain = transforms.cosine_errors
    monkeypatch.setattr(transforms, "cosine_errors", lambda x, ks: plain(x, tuple(k - 1 for k in ks)))


def milder_mixing(monkeypatch):
    monkeypatch.setattr(denoising, "Mixing", lambda snr: noisy_windows.Mixing((snr[0] + 3, snr[1])))


def one_way_likeness(monkeypatch):
    monkeypatch.setattr(stability, "likeness", lambda a, b, matched=False: stability.mmcs(a, b).item())


FAULTS = [
    ("synthetic", "penalty by the maximum and the sum", flipped),
    ("synthetic", "one-to-one penalty on released data", without_warmup),
    ("synthetic", "one-to-one penalty on released data", swapped_matching),
    ("synthetic", "released re-initialisation", one_power),
    ("synthetic", "baseline", constant(synthetic_data, "SAMPLES", 99)),
    ("synthetic", "the paper's dimensions", constant(training, "WEIGHTS", 99)),
    ("synthetic", "printed re-initialisation in its window", constant(training_state, "RESTART", 99)),
    ("synthetic", "two k and a balanced weight", constant(training_config, "calibrated_alpha", lambda rule, loss, value: loss)),
    ("coverage", "penalty", constant(synthetic_data, "FEATURES", 99)),
    ("coverage", "penalty", flipped),
    ("groups", "penalty", constant(groups, "APART", 7)),
    ("starts", "released data", constant(synthetic_data, "FEATURES", 99)),
    ("groups", "penalty", flipped),
    ("gpt2", "penalty balanced", flipped),
    ("gpt2", "penalty balanced", without_warmup),
    ("gpt2", "baseline", constant(activations, "TOKENS", 99)),
    ("gpt2-features", "both conditions", flipped),
    ("end-to-end", "end to end", turned_divergence),
    ("end-to-end", "end to end with the penalty", flipped),
    ("end-to-end", "local", constant(sequences, "TOKEN_SEQUENCES", 99)),
    ("end-to-end-likeness", "two seeds", one_way_likeness),
    ("eeg", "baseline, described", other_edge(eeg)),
    ("eeg", "penalty by the loss", flipped),
    ("eeg", "penalty by the loss", without_warmup),
    ("eeg", "all channels", other_order),
    ("eeg-transforms", "both", fewer_cosines),
    ("denoising", "classical", other_edge(denoising)),
    ("denoising", "noisy to clean with MFR", milder_mixing),
    ("denoising", "noisy to clean with MFR", flipped),
    ("tiny-lm", "five steps", constant(tiny_lm, "learning_rate", lambda config, step: 0.001)),
]  # fmt: skip


FIRST = {fault[0]: fault for fault in reversed(FAULTS)}.values()
"""The first of each experiment; the others are slow."""


@pytest.mark.parametrize(
    ("experiment", "name", "plant"),
    [fault if fault in FIRST else pytest.param(*fault, marks=pytest.mark.slow) for fault in FAULTS],
)
def test_a_planted_fault_is_reported(experiment, name, plant, monkeypatch):
    plant(monkeypatch)
    verdict, reason = judged(experiment, name)
    assert verdict == "changed"
    assert "off by" in reason


def test_every_experiment_has_a_planted_fault():
    assert {experiment for experiment, _, _ in FAULTS} == set(cases.CASES)


RECORD = compare.Record({"loss": [1.0, 2.0], "none": [float("nan")]}, {"page": "a"}, {"loss": 1e-4})


@pytest.mark.parametrize(
    ("loss", "page", "others", "verdict"),
    [
        ([1.0, 2.0], "a", [], "identical"),
        ([1.0, 2.0 + 5e-4], "a", ELSEWHERE, "within rounding"),
        ([1.0, 2.0 + 5e-4], "a", [], "changed"),  # on the same kind of machine every bit agrees
        ([1.0, 2.0], "b", [], "changed"),
        ([1.0, 2.0], "b", ELSEWHERE, "identical"),  # texts follow rounding, numbers are what is judged
        ([1.0, 2.002], "a", ELSEWHERE, "changed"),
        ([1.0, float("nan")], "a", ELSEWHERE, "changed"),
        ([1.0], "a", ELSEWHERE, "changed"),
    ],
)
def test_the_rule_of_judging(loss, page, others, verdict):
    found = compare.judge(RECORD, {"loss": loss, "none": [float("nan")]}, {"page": page}, others)
    assert found[0] == verdict


def test_a_number_that_is_new_or_missing_is_a_change():
    assert compare.judge(RECORD, {"loss": [1.0, 2.0]}, {}, ELSEWHERE) == ("changed", "none is missing")
    more = {**RECORD.numbers, "more": [1.0]}
    assert compare.judge(RECORD, more, {}, ELSEWHERE) == ("changed", "more is new")


def test_numbers_of_large_arrays_change_where_entries_change_places():
    array = torch.arange(100.0)
    run = Run("synthetic", {}, "", {}, weights={"weight": array})
    other = replace(run, weights={"weight": array.flip(0)})
    assert record.numbers(run) != record.numbers(other)


def test_a_record_is_made_anew_only_with_a_reason():
    with pytest.raises(config.ConfigError, match="a sentence that says why"):
        recompute.keep("because")


class TestMarks:
    def test_a_run_is_stale_when_its_experiment_or_what_it_is_built_on_behaves_otherwise(self, monkeypatch):
        made = behaviour.marks("coverage")
        assert behaviour.is_current("coverage", made)
        monkeypatch.setitem(behaviour.BEHAVIOUR, "eeg", 2)
        assert behaviour.is_current("coverage", made)
        monkeypatch.setitem(behaviour.BEHAVIOUR, "synthetic", 2)
        assert not behaviour.is_current("coverage", made)
        assert not behaviour.is_current("synthetic", behaviour.marks("synthetic") | {"behaviour": 1})

    def test_a_run_marked_by_its_source_is_adopted_if_that_source_s_behaviour_is_known(self):
        made = {"commit": "c", "source": "a8e3ca482b3026a6"}
        assert behaviour.adopted("coverage", made) == {"commit": "c", "behaviour": 1, "built_on": {"synthetic": 1}}
        assert behaviour.adopted("coverage", {"behaviour": 3}) == {"behaviour": 3}
        with pytest.raises(ValueError, match="'new' of coverage, whose behaviour is not known"):
            behaviour.adopted("coverage", {"source": "new"})


def test_what_probes_take_from_the_experiments_is_not_of_this_machine(monkeypatch):
    """No probe reads the user's data, nor what is installed here."""
    monkeypatch.setenv("MFR_DATA", str(PROJECT))
    monkeypatch.setattr(
        "mfrbook.experiments.docstrings.documents", lambda *_: pytest.fail("read the installed packages")
    )
    assert judged("end-to-end", "local")[0] != "changed"
    assert judged("eeg", "penalty by the loss")[0] != "changed"
    assert coverage.configure is synthetic_runs.configure
