"""Features whose frequency, place and condition are known: what is measured of them, and what they are called."""

import numpy as np
import pytest
import torch

from mfrbook.chapters.eeg import figures as eeg_figures
from mfrbook.chapters.eeg import kinds as eeg_kinds
from mfrbook.chapters.eeg import tables as eeg_tables
from mfrbook.chapters.eeg.features import measure, spectrum
from mfrbook.chapters.eeg.recordings.labelled import LabelledRecording
from mfrbook.store.runs import Run
from mfrlib.data.eeg.electrodes import TEN_TWENTY
from mfrlib.data.eeg.preprocessing import Preprocessing
from mfrlib.data.eeg.recording import windows
from mfrlib.models.sae import TopKSAE

mne = pytest.importorskip("mne")

SECONDS = 12
AT = np.arange(250) / 250
# Frequency and electrodes of the rhythms that are put into the recordings; each has a feature of its frequency, both phases.
RHYTHMS = {"alpha": (10, ("O1", "O2")), "spindle-like": (14, ("Cz", "C3", "C4")), "eye": (2, ("Fp1", "Fp2")),
           "muscle": (33, ("T7", "T8")), "theta": (6, ("Fz", "F3", "F4"))}  # fmt: skip


def recording(name, subject, strength=1.0):
    """Return 12 s in which every electrode has its own rhythm, or else one of 18 Hz, alpha in a share of the seconds."""
    seconds = np.arange(SECONDS * 250) / 250
    draws = np.random.default_rng([ord(one) for one in name])
    signal = np.zeros((len(TEN_TWENTY), len(seconds)))
    own = {electrode: hertz for hertz, electrodes in RHYTHMS.values() for electrode in electrodes}
    for channel, electrode in enumerate(TEN_TWENTY):
        hertz = np.full(len(seconds), own.get(electrode, 18))
        if electrode in RHYTHMS["alpha"][1]:
            hertz[seconds >= SECONDS * strength] = 18
        signal[channel] = 20e-6 * np.sin(2 * np.pi * hertz * seconds + 0.3) + 1e-8 * draws.standard_normal(len(seconds))
    info = mne.create_info(list(TEN_TWENTY), 250.0, "eeg", verbose="ERROR")
    raw = mne.io.RawArray(signal, info, verbose="ERROR")
    return LabelledRecording(name, subject, TEN_TWENTY, lambda: windows(raw, Preprocessing()), Preprocessing())


@pytest.fixture(scope="module")
def run():
    hertz = [*(one for one, _ in RHYTHMS.values()), 18]
    rows = np.array([wave(2 * np.pi * one * AT) for one in hertz for wave in (np.sin, np.cos)])
    sae = TopKSAE(2, 250, len(rows), (2, 4), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        sae.weight[:] = torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    draws = np.random.default_rng(0).uniform(0.85, 0.95, 6)
    recordings = [recording(f"Subject{i:02d}_1.edf", f"Subject{i:02d}", draws[i]) for i in range(6)]
    recordings += [recording(f"Subject{i:02d}_2.edf", f"Subject{i:02d}", draws[i] - 0.4) for i in range(6)]
    results, arrays = measure(sae, recordings, Preprocessing())
    return Run("eeg", {"k": [2, 4], "seed": 0}, "eeg:known", results, arrays=arrays)


def test_spectra_are_those_of_the_rows():
    rows = np.stack([np.sin(2 * np.pi * 10 * AT), np.sin(2 * np.pi * 3 * AT) + np.sin(2 * np.pi * 20 * AT)])[:, None]
    power = spectrum(rows, 250)
    assert power.shape == (2, 46)
    np.testing.assert_allclose(power.sum(1), 1)
    assert power[0, 10] == pytest.approx(1)
    assert power[1, [3, 20]] == pytest.approx([0.5, 0.5])


def test_features_are_found_where_they_were_put(run):
    activity = run.arrays["feature_activity"]
    for place, (name, (_, electrodes)) in enumerate(RHYTHMS.items()):
        at = activity[:, 2 * place : 2 * place + 2].sum(1)
        strongest = {run.results["electrodes"][i] for i in np.argsort(-at)[: len(electrodes)]}
        assert strongest == set(electrodes), name


def test_features_are_called_by_their_frequency_and_place(run):
    table = eeg_kinds.kinds(run).set_index("feature")
    for place, (name, (hertz, _)) in enumerate(RHYTHMS.items()):
        mine = table.loc[[one for one in (2 * place, 2 * place + 1) if one in table.index]]
        assert set(mine["kind"]) == {name}
        assert set(mine["peak"]) == {hertz}
    assert set(table.loc[10:, "kind"]) == {"beta"}


def test_a_difference_between_conditions_is_found_and_no_other(run):
    assert eeg_kinds.two_conditions(run) == ("rest", "arithmetic")
    table = eeg_kinds.compare_conditions(run)
    assert np.all(table["q"] >= table["p"])
    found = table[table["q"] <= eeg_kinds.LEVEL]
    assert set(found["kind"]) == {"alpha", "beta"}  # what alpha gave way to
    assert (found.loc[found["kind"] == "alpha", "difference"] < 0).all()


def test_recordings_without_two_conditions_are_not_compared(run):
    others = [f"aaaaaaa{i}_s001_t000.edf" for i in range(12)]
    plain = Run("eeg", run.config, run.data_id, run.results | {"recordings": others}, arrays=run.arrays)
    assert eeg_kinds.two_conditions(plain) is None
    with pytest.raises(ValueError, match="no two conditions"):
        eeg_kinds.rates_by_subject(plain)


def test_the_stretch_is_in_microvolts_and_the_larger_k_is_nearer(run):
    recorded, smallest, largest = run.arrays["stretch"]
    assert recorded.shape == (19, 2500)
    assert recorded[:, 500:2000].max() == pytest.approx(20, rel=0.1)
    np.testing.assert_allclose(smallest[:, 500:2000], recorded[:, 500:2000], atol=1)
    assert np.abs(largest - recorded).sum() < np.abs(smallest - recorded).sum()


def test_figures_say_what_they_show(run):
    maps = eeg_figures.maps(run)
    assert "alpha: peak at 10 Hz, most active at O" in maps.alt
    assert set(maps.data["kind"]) == {*RHYTHMS, "beta"}
    traces = eeg_figures.stretch(run)
    assert list(traces.data["electrode"].unique()) == list(eeg_figures.SHOWN)
    compared = eeg_figures.conditions(run)
    assert "6 subjects" in compared.alt
    assert len(compared.data) == len(eeg_tables.conditions(run, top=100))


def test_joint_features_lie_where_their_energy_is():
    electrodes = ("Fp1", "O1")
    preprocessing = Preprocessing(channels="joint", rate=250, electrodes=electrodes)
    rows = np.zeros((2, 500), dtype=np.float32)
    rows[0, 250:], rows[1, :250] = np.sin(2 * np.pi * 10 * AT), np.sin(2 * np.pi * 2 * AT)
    sae = TopKSAE(1, 500, 2, 2)
    with torch.no_grad():
        sae.weight[0] = torch.from_numpy(rows)
    signal = 20e-6 * np.sin(2 * np.pi * np.array([[2.0], [10.0]]) * np.arange(8 * 250) / 250)
    raw = mne.io.RawArray(signal, mne.create_info(list(electrodes), 250.0, "eeg", verbose="ERROR"), verbose="ERROR")
    recorded = LabelledRecording("a", "a", electrodes, lambda: windows(raw, preprocessing), preprocessing)
    _, arrays = measure(sae, [recorded], preprocessing)
    activity = arrays["feature_activity"]
    assert activity[0, 0] == 0 < activity[1, 0]
    assert activity[1, 1] == 0 < activity[0, 1]
    assert "stretch" not in arrays  # eight seconds only


def test_what_relu_cut_to_zero_is_not_active():
    sae = TopKSAE(1, 250, 8, 8, activation="relu", generator=torch.Generator().manual_seed(0))
    one = recording("Subject00_1.edf", "Subject00")
    vectors = np.concatenate([block.vectors for block in one.blocks()])
    expected = (sae.encode(torch.from_numpy(vectors))[0] > 0).float().mean(0).numpy()
    _, arrays = measure(sae, [one], Preprocessing())
    assert expected.max() < 1
    np.testing.assert_allclose(arrays["recording_rate"][0], expected, atol=1e-6)
