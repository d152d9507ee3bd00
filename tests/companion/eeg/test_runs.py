"""The EEG experiment on simulated recordings, and on real ones where they are at hand."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from mfrbook.chapters.eeg import readings as eeg_readings
from mfrbook.chapters.eeg import runs as eeg
from mfrbook.chapters.eeg import tables as eeg_tables
from mfrbook.chapters.eeg.measures import shorter_against_longer, shorter_against_longer_smallest_k, shorter_gain
from mfrbook.chapters.eeg.opponents import longer as eeg_controls
from mfrbook.chapters.eeg.opponents import tables as opponent_tables
from mfrbook.chapters.eeg.recordings import simulation as eeg_simulation
from mfrbook.experiments.conditions import plan_conditions
from mfrbook.experiments.planned import Profile, collected, plan
from mfrbook.store.store import Store
from mfrlib.config import ConfigError
from mfrlib.models.sae import TopKSAE

TINY = {"steps": 12, "batch_size": 32, "n_features": 48, "n_saes": 3, "k": [2, 4, 6], "data": ""}


@pytest.fixture(autouse=True)
def short_simulation(monkeypatch):
    plain = eeg_simulation.simulated_eeg
    monkeypatch.setattr(
        eeg, "simulated_eeg", lambda *args, **options: plain(*args, n_subjects=3, seconds=8.0, **options)
    )


def four(values, place):
    config = eeg.configure(values, "smoke")
    return collected(plan_conditions("eeg", config, "calibrate", eeg.data_id(config)), Store(place))


@pytest.fixture
def pair(tmp_path):
    return four(TINY, tmp_path)


def test_alpha_is_the_initial_loss(pair):
    first = pair["penalty"].metrics[0]["loss"]
    assert pair["penalty"].results["alpha"] == pytest.approx(np.mean(first), rel=1e-5)
    assert pair["baseline"].results["alpha"] == 0


def test_conditions_start_alike_and_then_differ(pair):
    assert pair["baseline"].metrics[0]["loss"] == pair["penalty"].metrics[0]["loss"]
    assert pair["baseline"].results["loss"] != pair["penalty"].results["loss"]


def test_tables_can_say_windows_seen_and_epochs(pair):
    results = pair["baseline"].results
    assert results["samples"] == 12 * 32
    assert results["epochs"] == pytest.approx(results["samples"] / results["unique_windows"])
    assert results["simulated"] is True
    assert results["subjects"] + results["held_out_subjects"] == 3


def test_distances_are_from_the_smallest_k(pair):
    run = pair["baseline"]
    rows = torch.nn.functional.normalize(run.weights["weight"], dim=-1)
    expected = [float((one - rows[0]).norm()) for one in rows]
    assert run.results["distance"] == pytest.approx(expected, abs=1e-4)
    assert run.results["distance"][0] == 0
    assert all(a <= b + 1e-5 for a, b in zip(run.results["distance_matched"], run.results["distance"], strict=True))


def test_matched_distance_forgets_the_order_of_rows():
    sae = TopKSAE(2, 20, 30, (2, 4), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        sae.weight[1] = sae.weight[0][torch.randperm(30, generator=torch.Generator().manual_seed(1))]
    source = type("Source", (), {"iterate": lambda self: iter([torch.randn(50, 20)]), "subjects": ("a",)})()
    results, _ = eeg.evaluate(sae, source)
    assert results["distance"][1] > 1
    assert results["distance_matched"][1] == pytest.approx(0, abs=1e-4)


def test_more_active_features_reconstruct_better(pair):
    loss = pair["baseline"].results["loss"]
    assert loss == sorted(loss, reverse=True)


def test_the_simulation_says_in_its_identity_that_it_is_one():
    assert "simulated" in eeg.data_id(eeg.configure(TINY, "smoke"))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"channels": "stereo"}, "channels"),
        ({"k": [2, 4]}, "k"),
        ({"k": [2, 4, 60]}, "k"),
        ({"alpha": -1.0}, "alpha"),
        ({"calibration": "guess"}, "calibration"),
        ({"chanels": "single"}, "channels"),
    ],
)
def test_impossible_values_are_refused(values, said):
    with pytest.raises(ConfigError, match=said):
        eeg.configure({**TINY, **values}, "smoke")


def test_starts_that_stay_below_the_threshold_pass(pair):
    assert pair["baseline"].results["passing_starts"] == [1.0, 1.0, 1.0]
    assert set(pair) == {"baseline", "penalty"}


def test_where_every_start_exceeds_the_threshold_re_initialisation_is_left_out(tmp_path):
    values = {**TINY, "reinit_threshold": 0.3, "reinit_limit": 3}
    runs = four(values, tmp_path)
    assert runs["baseline"].results["passing_starts"] == [0.0, 0.0, 0.0]
    assert set(runs) == {"baseline", "penalty"}


def test_where_some_start_passes_it_is_run(tmp_path):
    values = {**TINY, "reinit_window": 1}
    first = eeg.run(eeg.configure(values, "smoke"), Store(tmp_path))
    highest = first.series("inactivity")[1][0]
    # Just below what the start of the SAE with the largest statistic had: other starts lie on either side.
    values |= {"reinit_threshold": float(highest.max() - 1e-4), "reinit_limit": 100}
    runs = four(values, tmp_path)
    assert 0 < min(runs["baseline"].results["passing_starts"]) <= 1
    assert "reinit" in runs
    assert runs["reinit"].results["events"]


def test_where_no_step_is_watched_every_start_passes(tmp_path):
    config = eeg.configure({**TINY, "reinit_window": 0}, "smoke")
    assert eeg.run(config, Store(tmp_path)).results["passing_starts"] == [1.0, 1.0, 1.0]


def test_starts_are_tried_with_the_inputs_that_the_run_drops(tmp_path, monkeypatch):
    objectives, plain = [], eeg.train
    monkeypatch.setattr(
        eeg, "train", lambda *args, **options: objectives.append(options.get("objective")) or plain(*args, **options)
    )
    values = {**TINY, "input_dropout": 0.25, "reinit_threshold": 0.3, "reinit_limit": 1}
    eeg.run(eeg.configure(values, "smoke"), Store(tmp_path))
    assert len(objectives) == 4
    assert all(one.keywords == {"share": 0.25} for one in objectives)


def test_readings_are_planned_and_collected_alike(tmp_path, monkeypatch):
    monkeypatch.setattr(
        eeg_readings, "PROFILES", {"smoke": Profile({"steps": 3, "batch_size": 16, "n_features": 64}, 1)}
    )
    found = eeg_readings.collect("smoke", values={"data": "", "k": [5, 6, 7, 8, 9]})
    assert set(found[0]) == set(eeg_readings.ROWS)
    table = eeg_tables.readings(found)
    assert table["d_in"].tolist() == [250, 250, 19 * 128]
    assert found[0]["R19", "k = 6 … 30, the released code's"]["penalty"].config["k"] == [6, 12, 18, 24, 30]
    keys = {run.key for pairs in found for pair in pairs.values() for run in pair.values()}
    planned = {one.key for one in plan(["eeg-readings"], {"profile": "smoke", "data": "", "n_seeds": 1})}
    assert keys == planned


@pytest.mark.parametrize("k", [[6, 4, 2], [4, 4, 4]])
def test_k_that_do_not_rise_are_refused_before_anything_runs(k):
    with pytest.raises(ConfigError, match="must rise from one SAE to the next"):
        plan(["eeg"], {**TINY, "k": k, "profile": "smoke"})


def test_a_longer_baseline_spends_the_penaltys_compute():
    config = eeg.configure({"data": "", "steps": 700}, "published")
    longer = eeg_controls.longer(config)
    changed = {one.name for one in fields(config) if getattr(config, one.name) != getattr(longer, one.name)}
    assert changed == {"steps"}
    step = 1024 * (5 * 4096 + 4 * (12 + 24 + 36 + 48 + 60))  # multiplications per sample of a window
    assert longer.steps * step == pytest.approx(config.steps * (step + 10 * 4096**2), rel=1e-3)


def test_a_published_one_is_the_baseline_of_the_papers_size():
    found, _ = eeg_controls.configs("published", None, {"data": ""})
    assert {one.steps for one, _ in found} == {700}
    baselines, _ = eeg.configs("published", len(found), {"data": ""})
    assert [replace(longer, log_every=100) for _, longer in found] == baselines
    assert {one.steps for one in baselines} == {3418}
    ((asked, longer),), alpha = eeg_controls.configs("published", 1, {"data": "", "steps": 1000, "alpha": 2.0})
    assert (asked.steps, longer.alpha, longer.steps > 3418, alpha) == (1000, 0.0, True, 2.0)


def test_the_features_of_the_first_seed_alone_are_described():
    found, _ = eeg.configs("smoke", 3, {"data": ""})
    assert [one.describe for one in found] == [True, False, False]


def test_controls_stand_beside_the_sections_runs():
    found = eeg_controls.collect("smoke", 2, TINY)
    assert [set(runs) for runs in found] == [{"baseline", "penalty", "longer"}] * 2

    class Evidence:
        def get(self, name):
            assert name == "eeg-controls"
            return found

    gains = [np.divide(runs["penalty"].results["loss"], runs["baseline"].results["loss"]) for runs in found]
    assert shorter_gain(Evidence()) == pytest.approx([1 - one.mean() for one in gains])
    ratios = [np.divide(runs["penalty"].results["loss"], runs["longer"].results["loss"]) for runs in found]
    assert shorter_against_longer(Evidence()) == pytest.approx([1 - np.median(one) for one in ratios])
    assert shorter_against_longer_smallest_k(Evidence()) == pytest.approx([1 - one[0] for one in ratios])
    table = opponent_tables.controls(found, "penalty")
    assert table["k"].tolist() == [2, 4, 6, "mean"]
    assert opponent_tables.opponent(found)["percent_of_compute"] == pytest.approx(100, abs=3)


def test_zero_alpha_is_no_comparison():
    with pytest.raises(ConfigError, match="alpha"):
        plan(["eeg"], {"profile": "smoke", "alpha": 0})


@pytest.mark.slow
def test_real_recordings(real_data, tmp_path):
    config = eeg.configure({**TINY, "data": str(real_data / "eeg" / "eegmat")}, "smoke")
    run = eeg.run(config, Store(tmp_path), progress=False)
    assert run.data_id == "eeg:eegmat:single:250Hz:0.5-45Hz:train"
    assert run.results["simulated"] is False
    assert run.results["subjects"] == 18
    assert all(0 < one < 1.5 for one in run.results["fvu"])
    assert str(real_data) not in json.dumps(run.config)


def test_dropped_inputs_keep_the_whole_target_and_repeat_after_a_checkpoint():
    sae = TopKSAE(2, 40, 60, 5, generator=torch.Generator().manual_seed(0))
    x = torch.randn(64, 40, generator=torch.Generator().manual_seed(1))
    none, some, again = (eeg.reconstruct_dropped(sae, x, share)[0] for share in (0.0, 0.5, 0.5))
    torch.testing.assert_close(none, (sae(x).reconstruction - x).square().mean((1, 2)))
    assert torch.equal(some, again)
    assert (some > none).all()
    other = eeg.reconstruct_dropped(sae, x.flip(0) * 1.001, 0.5)[0]
    assert not torch.equal(some, other)
