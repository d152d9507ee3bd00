import numpy as np
import pytest
import torch

from mfrbook.chapters.eeg.recordings.simulation import simulate, simulated_eeg
from mfrlib.config import ConfigError
from mfrlib.data.eeg.electrodes import TEN_TWENTY
from mfrlib.data.eeg.preprocessing import Preprocessing

pytest.importorskip("mne")


@pytest.fixture(scope="module")
def spectra():
    """Mean power spectra of six simulated subjects, `(channel, frequency)`, by frequency in Hz."""
    power = 0
    for subject in range(6):
        signal = simulate(0, subject, seconds=40).get_data().reshape(19, 20, 500) * np.hanning(500)
        power = power + (np.abs(np.fft.rfft(signal)) ** 2).mean(axis=1)
    return power, np.fft.rfftfreq(500, 1 / 250)


def test_a_subject_is_decided_by_its_seed():
    first = simulate(0, 3, seconds=6)
    assert np.array_equal(first.get_data(), simulate(0, 3, seconds=6).get_data())
    assert not np.allclose(first.get_data(), simulate(0, 4, seconds=6).get_data())
    assert not np.allclose(first.get_data(), simulate(1, 3, seconds=6).get_data())
    assert tuple(first.ch_names) == TEN_TWENTY
    assert first.info["sfreq"] == 250
    assert "simulated" in first.info["description"]


def test_amplitudes_are_those_of_eeg():
    for subject in range(3):
        deviation = 1e6 * simulate(0, subject, seconds=20).get_data().std(axis=1)
        assert (deviation > 2).all()
        assert (deviation < 60).all()


def band(spectra, name, low, high):
    power, frequency = spectra
    return power[TEN_TWENTY.index(name)][(frequency >= low) & (frequency <= high)].mean()


def test_rhythms_lie_where_they_should(spectra):
    assert band(spectra, "O1", 8, 12) > 2 * band(spectra, "Fp1", 8, 12)
    assert band(spectra, "O1", 8, 12) > 5 * band(spectra, "O1", 14, 20)
    assert band(spectra, "Fz", 4, 7) > 2 * band(spectra, "O1", 4, 7)
    assert band(spectra, "C3", 15, 25) > 1.5 * band(spectra, "Fp1", 15, 25)


def test_the_background_falls_with_frequency(spectra):
    for name in ("Fp1", "F7", "T8"):
        assert band(spectra, name, 1, 3) > 3 * band(spectra, name, 28, 34) > 3 * band(spectra, name, 90, 110)


def test_neighbours_share_what_distant_electrodes_do_not():
    """The head conducts: correlation falls with distance, as it would not for independent channels."""
    signal = simulate(0, 0, seconds=30).get_data()
    correlation = np.corrcoef(signal)
    near = [
        correlation[TEN_TWENTY.index(a), TEN_TWENTY.index(b)] for a, b in (("Fp1", "Fp2"), ("O1", "O2"), ("C3", "P3"))
    ]
    far = [
        correlation[TEN_TWENTY.index(a), TEN_TWENTY.index(b)] for a, b in (("Fp1", "O2"), ("F7", "P8"), ("F8", "O1"))
    ]
    assert np.mean(near) > np.mean(far) + 0.2


def test_the_source_is_a_source_like_another_that_says_it_is_simulated():
    train, test = (simulated_eeg(n_subjects=4, seconds=8, split=split, batch_size=32) for split in ("train", "test"))
    assert train.id == "eeg:simulated-4x8s-seed0:single:250Hz:0.5-45Hz:train"
    assert set(train.subjects).isdisjoint(test.subjects)
    assert (train.n_windows, test.n_windows) == (3 * 8 * 19, 8 * 19)
    assert torch.equal(train.batch(5), simulated_eeg(n_subjects=4, seconds=8, batch_size=32).batch(5))
    assert train.hash == simulated_eeg(n_subjects=4, seconds=8).hash
    joint = simulated_eeg(Preprocessing(channels="joint"), n_subjects=2, seconds=8, held_out=0.5, batch_size=4)
    assert joint.batch(0).shape == (4, 19 * 128)


def test_impossible_sizes_are_refused():
    for options in (
        {"n_subjects": 0},
        {"seconds": 1.0},
        {"seconds": 1e9},
        {"simulation_seed": -1},
        {"n_subjects": 1},
    ):
        with pytest.raises(ConfigError):
            simulated_eeg(**options)


def test_the_default_simulation_has_twelve_subjects_of_a_minute():
    assert simulated_eeg(held_out=0).n_windows == 12 * 60 * 19


def test_a_subject_is_simulated_once_a_process():
    first, again = (simulated_eeg(n_subjects=2, seconds=8.0, seed=seed) for seed in (0, 1))
    assert first.shards[0] is again.shards[0]
    assert not first.shards[0].values.flags.writeable
