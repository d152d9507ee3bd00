"""Whole recordings, clean and with a known artefact, and the methods that somebody would try on them."""

import numpy as np
import pytest

mne = pytest.importorskip("mne")

from mfrbook.chapters.denoising import classical  # noqa: E402
from mfrbook.chapters.denoising.clean_recordings import clean_recordings  # noqa: E402
from mfrbook.chapters.denoising.closeness import measure  # noqa: E402
from mfrbook.chapters.denoising.contamination import at_snr, contaminate, patterns  # noqa: E402
from mfrlib.config import ConfigError  # noqa: E402
from mfrlib.data.eeg.electrodes import TEN_TWENTY  # noqa: E402
from mfrlib.data.eeg.header import EEGDataError  # noqa: E402
from mfrlib.data.eeg.preprocessing import Preprocessing  # noqa: E402
from mfrlib.denoising.artefacts import KINDS  # noqa: E402

RATE = 250.0


def draws(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def clean():
    return next(clean_recordings(None, Preprocessing(), 1, 40.0))


def test_a_recording_gets_its_artefact_at_the_ratio_and_reference_channels(clean):
    found = contaminate(clean, "eye", -7.0, (0, 0))
    eeg = found.raw.get_data("eeg")
    added = eeg - found.clean
    assert 10 * np.log10((found.clean**2).sum() / (added**2).sum()) == pytest.approx(-7)
    assert found.raw.get_channel_types()[-3:] == ["eog", "eog", "ecg"]
    loudest = np.argsort(-(added**2).sum(1))[:2]
    assert {clean.ch_names[i] for i in loudest} == {"Fp1", "Fp2"}
    eog = found.raw.get_data("eog")
    assert max(abs(np.corrcoef(added[loudest[0]], one)[0, 1]) for one in eog) > 0.5
    other = contaminate(clean, "eye", 2.0, (0, 0)).raw.get_data("eeg") - found.clean
    assert np.allclose(other * 10 ** (9 / 20), added)  # the same course, weaker
    untouched = contaminate(clean, None, None, (0, 0))
    assert np.array_equal(untouched.raw.get_data("eeg"), untouched.clean)
    with pytest.raises(ConfigError, match="snr: must be a finite number"):
        contaminate(clean, "eye", float("inf"), (0, 0))


def test_each_artefact_has_a_method_that_removes_it(clean):
    """So that a contest is one: ICA or regression against eyes and heart, filters against mains and muscle."""
    for kind, names in (("eye", ("ica", "regression")), ("heart", ("regression",)), ("line", ("notch", "band-pass")),
                        ("muscle", ("band-pass", "ica"))):  # fmt: skip
        noisy = contaminate(clean, kind, -4.0, (1, 0))
        offered = classical.methods(kind, {})
        for name in names:
            found = measure(noisy.clean, noisy.raw.get_data("eeg"), offered[name](noisy.raw), RATE)
            assert found["snr_gain"] > 3, (kind, name)


def test_methods_are_offered_where_they_apply():
    assert set(classical.methods("line", {})) == {"nothing", "band-pass", "wavelet", "notch"}
    assert set(classical.methods("muscle", {})) == {"nothing", "band-pass", "wavelet", "ica"}
    assert "regression" in classical.methods("heart", {})


def test_wavelet_thresholding_takes_blinks_out_and_leaves_noise(clean):
    quiet = contaminate(clean, None, None, (0, 0)).raw
    kept = classical.wavelet(quiet)
    assert np.corrcoef(kept.ravel(), quiet.get_data("eeg").ravel())[0, 1] > 0.8


def test_linear_models_are_the_projection_and_the_least_squares_map():
    draws = np.random.default_rng(0)
    basis = np.linalg.qr(draws.standard_normal((10, 3)))[0]
    x = draws.standard_normal((500, 3)) @ basis.T
    y = x + 0.5 * draws.standard_normal((500, 10))
    batches = [np.concatenate([y, x], axis=1)[i : i + 100] for i in range(0, 500, 100)]
    pca, wiener = classical.LinearModel.pca(batches, 3), classical.LinearModel.wiener(batches)
    assert np.allclose(pca.matrix, basis @ basis.T, atol=1e-8)
    assert np.allclose(wiener.matrix, np.linalg.lstsq(y, x, rcond=None)[0].T, atol=1e-4)
    errors = [np.square(y @ one.matrix.T - x).mean() for one in (pca, wiener)]
    assert errors[1] < errors[0] < np.square(y - x).mean()


def test_recordings_are_those_of_held_out_subjects_and_long_enough(tmp_path):
    names = [raw.n_times for raw in clean_recordings(None, Preprocessing(), 2, 20.0)]
    assert names == [5000, 5000]
    with pytest.raises(EEGDataError, match="no EDF file"):
        next(clean_recordings(tmp_path, Preprocessing(), 1, 20.0))


@pytest.mark.parametrize("snr", [-7.0, 0.0, 2.0])
def test_the_ratio_of_powers_is_the_one_asked_for(snr):
    x, a = draws().standard_normal((2, 19, 500)) * [[[3.0]], [[0.1]]]
    added = at_snr(x, a, snr)
    assert 10 * np.log10((x**2).sum() / (added**2).sum()) == pytest.approx(snr, abs=1e-9)
    assert np.corrcoef(added.ravel(), a.ravel())[0, 1] == pytest.approx(1)


@pytest.mark.parametrize(
    ("clean", "artefact", "snr", "words"),
    [
        (np.ones(3), np.ones(3), float("nan"), "snr: must be a finite number of dB, given nan"),
        (np.ones(3), np.ones(3), float("-inf"), "snr"),
        (np.ones(3), np.ones(3), None, "snr"),
        (np.ones(3), np.zeros(3), 0.0, "artefact: must be finite, and not zero throughout"),
        (np.zeros(3), np.ones(3), 0.0, "clean"),
        (np.ones(3), np.full(3, np.inf), 0.0, "artefact"),
        (np.ones(3), np.ones(4), 0.0, r"artefact: must be of the shape \(3,\), given \(4,\)"),
    ],
)
def test_no_ratio_without_two_signals(clean, artefact, snr, words):
    with pytest.raises(ConfigError, match=words):
        at_snr(clean, artefact, snr)


def places():
    info = mne.create_info(list(TEN_TWENTY), 250, "eeg")
    info.set_montage(mne.channels.make_standard_montage("colin27_1020"))
    return np.array([channel["loc"][:3] for channel in info["chs"]])


def test_eyes_reach_the_front_and_glances_aside_have_opposite_signs():
    weights = dict(zip(TEN_TWENTY, patterns("eye", places(), draws()), strict=True))
    sideways, upward = (np.array([weights[name][i] for name in TEN_TWENTY]) for i in (0, 1))
    assert set(np.array(TEN_TWENTY)[np.argsort(-np.abs(upward))[:2]]) == {"Fp1", "Fp2"}
    assert weights["F7"][0] * weights["F8"][0] < 0
    assert abs(weights["O1"]).max() < 0.1 * abs(weights["Fp1"]).max()
    assert np.isfinite(sideways).all()


@pytest.mark.parametrize("kind", KINDS)
def test_every_artefact_needs_places(kind):
    assert patterns(kind, places(), draws()).shape[0] == 19
    with pytest.raises(ConfigError, match="positions: every electrode needs a place"):
        patterns(kind, np.full((3, 3), np.nan), draws())
