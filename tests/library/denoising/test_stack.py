"""Methods and measures of denoising, on whole recordings."""

import numpy as np
import pytest
import torch

mne = pytest.importorskip("mne")

from mfrlib.config import ConfigError  # noqa: E402
from mfrlib.data.eeg.header import EEGDataError  # noqa: E402
from mfrlib.data.eeg.preprocessing import Preprocessing  # noqa: E402
from mfrlib.denoising import classical  # noqa: E402
from mfrlib.denoising.measures import BANDS, measure  # noqa: E402
from mfrlib.denoising.noisy_recordings import clean_recordings, contaminate  # noqa: E402
from mfrlib.denoising.stack import denoising_loss, estimates, overlap_add  # noqa: E402
from mfrlib.models.sae import TopKSAE  # noqa: E402

RATE = 250.0


@pytest.fixture(scope="module")
def clean():
    return next(clean_recordings(None, Preprocessing(), 1, 40.0))


def signals(seed=0):
    return np.random.default_rng(seed).standard_normal((3, 5000))


def test_perfection_nothing_and_silence():
    x = signals()
    y = x + signals(1)
    perfect, nothing, silent = (measure(x, y, one, RATE) for one in (x, y, np.zeros_like(x)))
    assert perfect["rrmse_t"] == perfect["rrmse_s"] == perfect["delta"] == 0
    assert perfect["correlation"] == pytest.approx(1)
    assert perfect["snr_gain"] > 100
    assert nothing["snr_gain"] == 0
    assert nothing["rrmse_t"] == pytest.approx(1, abs=0.05)
    assert silent["rrmse_t"] == silent["rrmse_s"] == 1
    assert silent["correlation"] == 0
    assert silent["alpha"] == 60
    assert np.isnan(measure(x, x, y, RATE)["snr_gain"])


def test_twice_the_amplitude_is_six_decibels_in_every_band():
    x = signals()
    found = measure(x, x + 1, 2 * x, RATE)
    assert [found[band] for band in BANDS] == pytest.approx([20 * np.log10(2)] * 5)
    assert found["rrmse_t"] == pytest.approx(1)
    assert found["rrmse_s"] == pytest.approx(3)
    assert found["correlation"] == pytest.approx(1)


def test_measures_do_not_depend_on_the_unit():
    x, y, z = signals(), signals(1), signals(2)
    volts = measure(1e-6 * x, 1e-6 * y, 1e-6 * z, RATE)
    assert volts == pytest.approx(measure(x, y, z, RATE))


def test_what_cannot_be_measured_is_refused():
    x = signals()
    for bad, words in ((x[:2], "estimate: must be of the shape"), (x * np.nan, "estimate: must be finite")):
        with pytest.raises(ConfigError, match=words):
            measure(x, x, bad, RATE)
    with pytest.raises(ConfigError, match=r"clean: no channel may be silent, given 'channel \[1\]'"):
        measure(x * [[1], [0], [1]], x, x, RATE)


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


def test_overlap_add_keeps_leading_axes_and_blocks_do_not_matter(monkeypatch):
    x = signals()[:, :1234]
    double = overlap_add(x, 100, lambda windows: np.stack([windows, 2 * windows]), 0.5)
    assert np.allclose(double, np.stack([x, 2 * x]), rtol=1e-12)
    monkeypatch.setattr("mfrlib.denoising.stack.BLOCK", 1)
    assert np.array_equal(overlap_add(x, 100, lambda w: np.stack([w, 2 * w]), 0.5), double)
    for values, words in (({"overlap": 1.0}, "overlap"), ({"width": 2000}, "signals: must be as long as a window")):
        with pytest.raises(ConfigError, match=words):
            overlap_add(x, **{"width": 100, "denoise": lambda w: w, **values})


def test_the_loss_is_that_of_the_clean_half_and_trains_the_whole_sae():
    sae = TopKSAE(2, 10, 16, (2, 4), generator=torch.Generator().manual_seed(0))
    noisy, clean = torch.randn(2, 30, 10, generator=torch.Generator().manual_seed(1))
    loss, output = denoising_loss(sae, torch.cat([noisy, clean], dim=1))
    assert torch.allclose(loss, (sae(noisy).reconstruction - clean).square().mean((1, 2)))
    assert output.values.shape == (2, 30, 4)
    loss.sum().backward()
    assert sae.weight.grad.abs().sum(-1).count_nonzero() > 0
    same, _ = denoising_loss(sae, torch.cat([noisy, noisy], dim=1))
    assert torch.allclose(same, (sae(noisy).reconstruction - noisy).square().mean((1, 2)))


def test_estimates_are_in_the_windows_own_unit():
    sae = TopKSAE(1, 10, 10, 10, generator=torch.Generator().manual_seed(0))
    x = 1e-5 * np.random.default_rng(0).standard_normal((7, 10))
    assert np.allclose(estimates(sae, x)[0], x, rtol=0, atol=1e-10)
