"""The denoising experiment, its tables, figures and rows of the ledger, at the smallest size."""

import json

import numpy as np
import pytest

pytest.importorskip("mne")

from mfrbook.chapters.denoising import figures, measures, plan, tables
from mfrbook.chapters.denoising import runs as denoising
from mfrbook.chapters.eeg.recordings.simulation import simulated_name
from mfrbook.experiments import planned
from mfrbook.experiments.evidence import Evidence
from mfrbook.store.store import Store
from mfrlib.config import ConfigError

TINY = {"steps": 8, "batch_size": 32, "n_features": 64, "n_saes": 3, "k": [4, 8, 16], "test_snrs": [-7.0, 2.0],
        "test_seconds": 20.0, "data": "", "eye_movements": ""}  # fmt: skip


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Two seeds of the five conditions, computed once for this module."""
    patch = pytest.MonkeyPatch()
    patch.setenv("MFR_CACHE", str(tmp_path_factory.mktemp("denoising")))
    yield plan.collect("smoke", 2, TINY)
    patch.undo()


def test_a_run_says_what_it_did(seeds):
    assert list(seeds[0]) == list(denoising.CONDITIONS)
    run = seeds[0]["denoising"]
    assert run.results["samples"] == 8 * 32
    assert run.results["simulated"]
    assert run.results["simulated_eyes"]
    assert run.data_id == f"eeg:{simulated_name()}:single:250Hz:0.5-45Hz:seconds=4:train:eyes=simulated"
    rows = run.results["measures"]
    assert {(row["kind"], row["snr"]) for row in rows} == {(None, None)} | {
        (kind, snr) for kind in ("eye", "heart", "muscle", "line") for snr in (-7.0, 2.0)
    }
    assert {row["method"] for row in rows} == {"stack", "k=4", "k=8", "k=16"}
    json.dumps(run.results, allow_nan=False)


def test_conditions_differ_in_what_they_learn_only(seeds):
    """Same weights and clean windows at first: before the first step two conditions that learn the same are alike."""
    first = {name: run.metrics[0]["loss"] for name, run in seeds[0].items() if name != "classical"}
    assert first["denoising"] == first["denoising-mfr"]
    assert first["reconstruction"] == first["reconstruction-mfr"]
    assert first["denoising"] != first["reconstruction"]
    assert seeds[0]["denoising"].results["loss"] != seeds[0]["denoising-mfr"].results["loss"]


def test_methods_meet_the_same_recordings(seeds):
    for run in seeds[0].values():
        assert np.array_equal(run.arrays["trace_noisy"], seeds[0]["classical"].arrays["trace_noisy"])
    assert not np.array_equal(seeds[0]["classical"].arrays["trace_noisy"], seeds[1]["classical"].arrays["trace_noisy"])


def test_doing_nothing_is_the_zero_of_every_table(seeds):
    table = tables.measures(seeds)
    nothing = table[(table["method"] == "nothing") & table["kind"].notna()]
    assert (nothing["snr_gain"] == 0).all()
    untouched = table[(table["method"] == "nothing") & table["kind"].isna()]
    assert (untouched["rrmse_t"] == 0).all()
    shown = tables.summary(table).set_index("method")
    assert shown.loc["ICA", "mains"] == "–"
    assert shown.loc["notch filter", "eye movements"] == "–"
    assert shown.loc["do nothing", "no artefact"].middle == 0
    assert list(tables.every_measure(table)["method"])[:2] == ["do nothing", "band-pass"]


def test_differences_are_paired_by_seed(seeds):
    table = tables.measures(seeds)
    ours = tables.mean_of(table, "denoising", "snr_gain", "eye")
    ica = tables.mean_of(table, "ica", "snr_gain", "eye")
    said = tables.paired(table, "denoising").set_index("against").loc["ICA", "eye movements"]
    assert said.middle == pytest.approx((ours - ica).mean())
    assert said.low < said.middle < said.high


def test_the_ledger_reads_what_the_tables_show(seeds):
    evidence = Evidence("smoke")
    evidence.runs["denoising"] = seeds
    table, each, saes = tables.measures(seeds), tables.measures(seeds, of="k"), tables.single_saes(seeds)
    both = [np.array(measure(evidence)) for measure in (measures.denoise_gain, measures.denoise_gain_in_band)]
    assert np.mean(both, axis=0) == pytest.approx(tables.mean_of(each, "denoising", "snr_gain"))
    eye, heart = (tables.mean_of(each, "denoising", "snr_gain", kind) for kind in measures.IN_BAND)
    assert both[1] == pytest.approx((eye + heart) / 2)
    treated, plain = (tables.mean_of(table, name, "rrmse_t") for name in ("denoising-mfr", "denoising"))
    assert measures.denoise_mfr_mean(evidence) == pytest.approx(1 - treated / plain)
    for learnt, measure in (
        ("denoising", measures.denoise_mfr),
        ("reconstruction", measures.denoise_mfr_reconstruction),
    ):
        pair = [saes[saes["method"] == name].set_index(["seed", "k"])["rrmse_t"] for name in (f"{learnt}-mfr", learnt)]
        changes = [[1 - pair[0][seed, k] / pair[1][seed, k] for k in set(saes["k"])] for seed in (0, 1)]
        assert measure(evidence) == pytest.approx(np.mean(changes, axis=1))
    ica = tables.mean_of(table, "ica", "snr_gain", "eye")
    assert measures.denoise_ica(evidence) == pytest.approx(tables.mean_of(each, "denoising", "snr_gain", "eye") - ica)
    assert len(saes) == 2 * 4 * 3
    mine = saes[(saes["seed"] == 0) & saes["method"].str.startswith("reconstruction")]
    expected = np.corrcoef(mine["loss"], mine["rrmse_t"])[0, 1]
    assert measures.denoise_loss_r(evidence)[0] == pytest.approx(expected)
    by_k = [part[["loss", "rrmse_t"]] / part[["loss", "rrmse_t"]].mean() for _, part in mine.groupby("k")]
    expected = np.corrcoef(np.concatenate(by_k).T)[0, 1]
    assert measures.denoise_loss_r_within_k(evidence)[0] == pytest.approx(expected)
    assert evidence.samples("denoise_mfr") == 8 * 32
    assert all(np.isfinite(value) for value in tables.values(seeds).values() if not isinstance(value, str))


def test_figures_say_what_they_show(seeds):
    table = tables.measures(seeds)
    plots = [figures.gains(table), figures.against_snr(table), figures.bands(table), figures.spectra(seeds[0]),
             figures.loss_against_error(tables.single_saes(seeds)), figures.example(seeds[0])]  # fmt: skip
    for plot in plots:
        assert len(plot.alt) > 80
        assert len(plot.data)
    names = [label.get_text() for label in plots[0].figure.axes[0].get_yticklabels()]
    assert {"ICA", "SAE, taught noisy to clean"} <= set(names)
    assert not any("MFR" in name or "nothing" in name for name in names)
    best = table[(table["kind"] == "eye") & ~table["method"].str.contains("mfr")].groupby("method")["snr_gain"].mean()
    assert f"{tables.METHOD[best.idxmax()]} for eye movements" in plots[0].sees
    drawn = plots[1].figure.axes[0].get_legend_handles_labels()[1]
    assert {"an empty channel", "SAE, reconstruction only", "SAE, taught noisy to clean"} <= set(drawn)
    assert len(plots[1].figure.axes[0].lines) == 1 + 3 * (2 + 1)  # of each method two seeds and their mean


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"artefacts": ["eyes"]}, "artefacts: must be of eye, heart, muscle, line, given 'eyes'"),
        ({"artefacts": []}, "artefacts"),
        ({"test_snrs": [float("nan")]}, "test_snrs: must be finite"),
        ({"test_snrs": []}, "test_snrs"),
        ({"lowest_snr": 5.0, "highest_snr": -5.0}, "lowest_snr: must not be above highest_snr"),
        ({"learns": "denoise"}, "learns"),
        ({"test_seconds": 5.0}, "test_seconds: must be 20 to 3600 s"),
        ({"k": [2, 4]}, "k"),
    ],
)
def test_impossible_values_are_refused(values, said):
    with pytest.raises(ConfigError, match=said):
        denoising.configure({**TINY, **values}, "smoke")


def test_the_notebooks_k_are_planned_as_it_runs_them():
    found = planned.plan(["denoising"], {"profile": "smoke", "n_seeds": 1, "data": "", "k": [2, 4, 8]})
    assert {(one.config.n_saes, tuple(one.config.k)) for one in found} == {(3, (2, 4, 8))}


def test_a_missing_file_of_eye_movements_is_named_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(denoising, "train", lambda *_, **__: pytest.fail("trained"))
    config = denoising.configure({**TINY, "eye_movements": str(tmp_path / "eog.npz")}, "smoke")
    with pytest.raises(ConfigError, match=r"eye_movements: must be an npz file.*eog\.npz"):
        denoising.run(config, Store(tmp_path))


@pytest.mark.slow
def test_real_recordings_and_real_eye_movements(real_data, tmp_path):
    places = {"data": str(real_data / "eeg" / "eegmat"), "eye_movements": str(real_data / "eeg" / "eog_rem_256Hz.npz")}
    config = denoising.configure({**TINY, **places}, "smoke")
    run = denoising.run(config, Store(tmp_path), progress=False)
    assert run.data_id == "eeg:eegmat:single:250Hz:0.5-45Hz:seconds=4:train:eyes=eog_rem_256Hz"
    assert not run.results["simulated"]
    assert not run.results["simulated_eyes"]
    assert run.results["subjects"] == 18
    assert str(real_data) not in json.dumps(run.config)
