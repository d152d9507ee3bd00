"""Artefacts: their courses, and the windows that they are mixed into."""

import numpy as np
import pytest
import torch
from scipy.signal import welch

from mfrlib.config import ConfigError
from mfrlib.denoising.artefacts import KINDS, EyeMovements, courses, load_eye_movements
from mfrlib.denoising.noisy_windows import TRAINING_PART, Bank, GivenPairs, Mixing, NoisyWindows, in_memory

mne = pytest.importorskip("mne")


def draws(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture
def eyes(tmp_path):
    """Two minutes of 'recorded' eye movements: a ramp, so that it shows which part was taken."""
    path = tmp_path / "eog.npz"
    slow = np.cumsum(draws(1).standard_normal((2, 120 * 200)), axis=1)
    np.savez(path, data=slow, sf=200.0)
    return load_eye_movements(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_course_is_decided_by_its_seed(kind):
    a, b, c = (courses(kind, 2500, 250, draws(seed)) for seed in (0, 0, 1))
    assert np.array_equal(a, b)
    assert not np.allclose(a, c)
    assert (a**2).mean() == pytest.approx(1)


def test_artefacts_are_where_they_belong_in_the_spectrum():
    def share(kind, low, high):
        frequency, power = welch(courses(kind, 60 * 250, 250, draws()), 250, nperseg=500)
        inside = (frequency >= low) & (frequency <= high)
        return power[:, inside].sum() / power.sum()

    assert share("eye", 0, 8) > 0.9
    assert share("heart", 0.5, 35) > 0.9
    assert share("muscle", 20, 125) > 0.9
    assert share("line", 49, 51) > 0.9


def test_recorded_eye_movements_are_resampled_and_kept_apart(eyes):
    assert courses("eye", 250 * 30, 250, draws(), eyes, TRAINING_PART).shape == (2, 7500)
    with pytest.raises(ConfigError, match=r"n_samples: at most 36 s are recorded in this part of eog"):
        courses("eye", 250 * 60, 250, draws(), eyes, (0.7, 1.0))
    silent = EyeMovements(eyes.microvolts * (np.arange(24000) < 16800), 200.0, "half", "")
    for seed in range(5):  # only zeros beyond the training part
        assert np.abs(courses("eye", 250 * 20, 250, draws(seed), silent, (0.705, 1.0))).max() < 1e-6


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        ({"data": np.zeros((2, 20000)), "sf": 50.0}, "eye_movements: sf must be 120 to 20000 Hz, given 50"),
        ({"data": np.zeros((3, 20000)), "sf": 256.0}, r"eye_movements: data must be \(2, n\), given \(3, 20000\)"),
        ({"data": np.full((2, 20000), np.nan), "sf": 256.0}, "eye_movements: data must be finite"),
        ({"data": np.zeros((2, 200)), "sf": 256.0}, "eye_movements: must last 60 s or more"),
        ({"sf": 256.0}, r"eye_movements: needs data \(2, n\) in µV and sf in Hz"),
    ],
)
def test_a_file_that_holds_no_eye_movements_is_refused(tmp_path, stored, words):
    np.savez(tmp_path / "x.npz", **stored)
    with pytest.raises(ConfigError, match=words):
        load_eye_movements(tmp_path / "x.npz")


def test_a_file_that_is_not_there_or_no_npz_is_named(tmp_path):
    (tmp_path / "x.npz").write_text("no")
    for path in (tmp_path / "x.npz", tmp_path / "missing.npz"):
        with pytest.raises(ConfigError, match=f"eye_movements.*{path.name}"):
            load_eye_movements(path)


def test_a_rate_too_low_and_an_unknown_kind_are_refused():
    with pytest.raises(ConfigError, match="rate: must be 120 to 20000 Hz, given 100"):
        courses("line", 100, 100, draws())
    with pytest.raises(ConfigError, match="unknown artefact 'eyes'; did you mean 'eye'"):
        courses("eyes", 100, 250, draws())


def pairs(mixing=None, bank=True, batch_size=64):
    long = draws(5).standard_normal((40, 1000))
    drawn = Bank.draw(250, 0, seconds=20) if bank else None
    return NoisyWindows(in_memory(long, batch_size, 0), 250, drawn, 0, mixing or Mixing())


def test_shards_of_a_batch_are_its_rows():
    source = pairs()
    whole = source.batch(3)
    assert whole.shape == (64, 500)
    assert torch.equal(whole, torch.cat([source.batch(3, (0, 1, 2)), source.batch(3, (3, 4, 5, 6, 7))]))
    assert torch.equal(whole, pairs().batch(3))
    assert not torch.equal(whole, source.batch(4))


def test_halves_are_scaled_by_the_noisy_one_and_ratios_are_those_asked_for():
    noisy, clean = pairs(Mixing((-5.0, -5.0), 0.0)).batch(0).double().chunk(2, dim=1)
    assert torch.allclose(noisy.square().mean(1), torch.ones(64, dtype=torch.double), atol=1e-4)
    snr = 10 * torch.log10(clean.square().sum(1) / (noisy - clean).square().sum(1))
    assert snr.min() > -5.01  # a window between two bursts has a better one
    assert ((snr + 5).abs() < 0.01).float().mean() > 0.5


def test_some_windows_are_left_alone_and_all_without_a_bank():
    noisy, clean = pairs(Mixing(untouched=0.5), batch_size=400).batch(0).chunk(2, dim=1)
    assert 0.35 < (noisy == clean).all(1).float().mean() < 0.65
    noisy, clean = pairs(bank=False).batch(0).chunk(2, dim=1)
    assert torch.equal(noisy, clean)


def test_pairs_that_are_given_stay_together():
    clean = draws().standard_normal((50, 20))
    source = GivenPairs.of([clean + 3], [clean], 20, 16, 0)
    noisy, wanted = source.batch(0).chunk(2, dim=1)
    assert source.d_in == 20
    ratio = (noisy - wanted) / 3  # one over the scale of each row
    assert torch.allclose(ratio, ratio[:, :1].expand_as(ratio), atol=1e-6)


@pytest.mark.parametrize("mixing", [Mixing((float("nan"), 1.0)), Mixing((2.0, 1.0)), Mixing(untouched=1.0)])
def test_impossible_mixing_is_refused(mixing):
    with pytest.raises(ConfigError, match=r"snr|untouched"):
        pairs(mixing)


def test_windows_in_memory_are_known_by_their_values():
    """Another array never continues, or answers for, a run on the first."""
    windows = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    changed = windows.copy()
    changed[19, 5] += 1e-6
    ids = [in_memory(one, 4, 0).id for one in (windows, windows.astype(np.float64), changed, windows[::-1])]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
