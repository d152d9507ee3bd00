"""The estimator: scikit-learn's own checks, MNE objects in and out, errors that say what is wrong."""

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")
mne = pytest.importorskip("mne")

from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

from mfrbook.chapters.eeg.recordings.simulation import simulate  # noqa: E402
from mfrbook.store.provenance import PROJECT  # noqa: E402
from mfrlib.config import ConfigError  # noqa: E402
from mfrlib.denoising.estimator import EEGDenoiser  # noqa: E402
from mfrlib.models.sae import TopKSAE  # noqa: E402

SMALL = {"n_features": 64, "k": 8, "steps": 3, "batch_size": 16}


@parametrize_with_checks([EEGDenoiser(**SMALL), EEGDenoiser(**SMALL, n_saes=2, alpha=0.5)])
@pytest.mark.filterwarnings("ignore:.*is recommended.*")
def test_it_is_an_estimator_by_scikit_learn_s_own_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def raw():
    """A simulated recording with an EOG channel, a bad channel and an annotation."""
    found = simulate(0, 0, seconds=12.0)
    eog = mne.io.RawArray(1e-4 * np.ones((1, found.n_times)), mne.create_info(["EOG"], 250, "eog"), verbose="ERROR")
    found.add_channels([eog], force_update_info=True)
    found.info["bads"] = ["O2"]
    found.set_annotations(mne.Annotations([2.0], [1.5], ["eyes closed"]))
    return found


@pytest.fixture(scope="module")
def fitted(raw):
    return EEGDenoiser(**SMALL).fit(raw)


@pytest.fixture(scope="module")
def perfect(raw):
    """A denoiser whose SAE reconstructs everything: as many features as samples, orthonormal, all active."""
    found = EEGDenoiser(**SMALL).fit(raw)
    found.sae_ = TopKSAE(1, 250, 250, 250).double()
    square = torch.randn(250, 250, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found.sae_.weight.data[0] = torch.linalg.qr(square).Q
    return found


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
def test_a_perfect_model_gives_the_recording_back(raw, perfect, overlap):
    cropped = raw.copy().crop(0, 7.3)  # no whole number of windows
    out = perfect.set_params(overlap=overlap).transform(cropped)
    assert np.abs(out.get_data() - cropped.get_data()).max() < 1e-12 * np.abs(cropped.get_data("eeg")).max()


def test_raw_in_raw_out(raw, fitted):
    before = raw.get_data()
    out = fitted.transform(raw)
    assert isinstance(out, mne.io.BaseRaw)
    assert out.info["bads"] == ["O2"]
    assert out.ch_names == raw.ch_names
    assert mne.utils.object_diff(out.info, raw.info) == ""
    assert out.annotations.description.tolist() == ["eyes closed"]
    assert out.first_samp == raw.first_samp
    assert np.array_equal(raw.get_data(), before)
    for name in ("O2", "EOG"):
        assert np.array_equal(out.get_data(name), raw.get_data(name)), name
    changed = out.get_data(["Fp1", "Cz"])
    assert not np.allclose(changed, raw.get_data(["Fp1", "Cz"]))
    assert 1e-7 < changed.std() < 1e-4  # still volts


def test_epochs_in_epochs_out(raw, fitted, perfect):
    events = np.array([[250 * i, 0, 1] for i in range(1, 9)])
    epochs = mne.Epochs(raw, events, tmin=0, tmax=1.2, baseline=None, preload=True, verbose="ERROR")
    out = fitted.transform(epochs)
    assert isinstance(out, mne.BaseEpochs)
    assert np.array_equal(out.events, epochs.events)
    assert np.array_equal(out.get_data("EOG"), epochs.get_data("EOG"))
    assert np.allclose(
        perfect.set_params(overlap=0.5).transform(epochs).get_data(), epochs.get_data(), rtol=0, atol=1e-16
    )
    again = EEGDenoiser(**SMALL).fit(epochs)
    assert again.n_features_in_ == 250


def test_no_edge_of_a_window_shows(raw, fitted):
    """Steps between samples at the ends of windows are not larger than elsewhere."""
    out = fitted.set_params(overlap=0.5).transform(raw).get_data("Cz")[0]
    steps = np.abs(np.diff(out, 2))
    edges = np.arange(125, len(steps) - 125, 125)
    at_edges = steps[edges - 1].mean() + steps[edges].mean()
    assert at_edges < 2 * 1.5 * steps.mean()


def test_channels_in_another_order_are_the_same_set(raw, fitted):
    turned = raw.copy().reorder_channels(raw.ch_names[::-1])
    a, b = fitted.transform(raw), fitted.transform(turned)
    assert np.allclose(a.get_data(), b.get_data(raw.ch_names), rtol=0, atol=1e-15)


@pytest.mark.parametrize("unit", [1e-6, 1e-25, 1e-200, 1e200])
def test_units_do_not_matter_to_arrays(unit):
    x = np.random.default_rng(0).standard_normal((40, 50))
    denoiser = EEGDenoiser(**SMALL).fit(x)
    assert np.allclose(denoiser.transform(unit * x) / unit, denoiser.transform(x), rtol=1e-9)
    assert np.allclose(EEGDenoiser(**SMALL).fit_transform(unit * x) / unit, denoiser.transform(x), rtol=1e-4, atol=1e-4)


def test_a_window_of_zeros_stays_zero():
    x = np.random.default_rng(0).standard_normal((40, 50))
    x[3] = 0
    assert not EEGDenoiser(**SMALL).fit(x).transform(x)[3].any()


def test_pairs_teach_more_than_reconstruction():
    """Windows of two slow waves, and noise that is known: what is taught to take it out does so better."""
    draws = np.random.default_rng(0)
    time = np.arange(50) / 50
    phase, size = draws.uniform(0, 2 * np.pi, (2, 400, 1))
    clean = np.sin(2 * np.pi * 2 * time + phase) + np.sin(2 * np.pi * 3 * time + size)
    noisy = clean + 2 * np.sin(2 * np.pi * 17 * time + draws.uniform(0, 2 * np.pi, (400, 1)))
    options = {"n_features": 64, "k": 8, "steps": 150, "batch_size": 64, "learning_rate": 0.01}
    taught = EEGDenoiser(**options).fit(noisy, clean=clean)
    plain = EEGDenoiser(**options).fit(clean)
    error = [np.square(one.transform(noisy) - clean).mean() for one in (taught, plain)]
    assert error[0] < 0.5 * np.square(noisy - clean).mean()
    assert error[0] < error[1]


def test_raw_pairs_are_taken_too(raw):
    noisy = raw.copy().apply_function(lambda x: x + 1e-5 * np.sin(np.arange(len(x))), picks="eeg")
    assert EEGDenoiser(**SMALL).fit(noisy, clean=raw).transform(noisy).ch_names == raw.ch_names


def test_pairs_belong_together_whatever_is_bad_or_first(raw):
    """A clean channel holds another signal than the next: what is learnt is the same however the recordings are told."""
    clean = [simulate(0, i, seconds=8.0) for i in range(2)]
    noisy = [one.copy().apply_function(lambda x: x + 1e-5 * np.sin(np.arange(len(x))), picks="eeg") for one in clean]
    names = clean[0].ch_names
    noisy[0].info["bads"], clean[0].info["bads"] = [names[1]], [names[2]]
    told = EEGDenoiser(**SMALL).fit(noisy, clean=clean).sae_.weight
    for one in (noisy[0], clean[0]):
        one.info["bads"] = [names[1], names[2]]
    clean[1].reorder_channels(names[::-1])
    assert torch.equal(EEGDenoiser(**SMALL).fit(noisy, clean=clean).sae_.weight, told)
    with pytest.raises(ConfigError, match="as many recordings"):
        EEGDenoiser(**SMALL).fit(noisy, clean=clean[:1])


def test_several_recordings_and_a_seed(raw):
    both = [raw, simulate(0, 1, seconds=8.0)]
    both[1].info["bads"] = []
    eeg = [both[0].copy().pick("eeg", exclude=()), both[1]]
    a, b = (EEGDenoiser(**SMALL, random_state=3).fit(eeg) for _ in range(2))
    assert torch.equal(a.sae_.weight, b.sae_.weight)
    assert not torch.equal(a.sae_.weight, EEGDenoiser(**SMALL, random_state=4).fit(eeg).sae_.weight)


def test_it_goes_into_a_pipeline():
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    x = np.random.default_rng(0).standard_normal((30, 20))
    assert make_pipeline(FunctionTransformer(), EEGDenoiser(**SMALL)).fit_transform(x).shape == (30, 20)


def test_wrong_recordings_are_refused(raw, fitted):
    with pytest.raises(ConfigError, match=r"sfreq: fitted on 250 Hz: resample the recording, given 125"):
        fitted.transform(raw.copy().resample(125, verbose="ERROR"))
    with pytest.raises(ConfigError, match=r"channels: fitted on other ones: missing \['Cz'\], not fitted \[\]"):
        fitted.transform(raw.copy().drop_channels(["Cz"]))
    with pytest.raises(ConfigError, match=r"not fitted \['Mine'\]"):
        fitted.transform(raw.copy().rename_channels({"Cz": "Mine"}))
    flat = raw.copy().load_data().apply_function(lambda x: 0 * x, picks=["Fz"])
    with pytest.raises(ConfigError, match=r"X: must not be flat throughout.*given \"channel 'Fz'\""):
        fitted.transform(flat)
    flat.info["bads"] = ["Fz", "O2"]
    fitted.transform(flat)
    broken = raw.copy().apply_function(lambda x: np.where(np.arange(len(x)) == 9, np.nan, x), picks=["Pz"])
    for call in (fitted.transform, EEGDenoiser(**SMALL).fit):
        with pytest.raises(
            ConfigError, match=r"X: must be finite: annotate .* or mark the channel in info.*channel 'Pz' with NaN"
        ):
            call(broken)
    with pytest.raises(
        ConfigError, match=r"X: must be as long as a window, 250 samples, or longer.*, given '101 samples'"
    ):
        fitted.transform(raw.copy().crop(0, 0.4))
    with pytest.raises(ConfigError, match="channels: at least one must be of type EEG"):
        fitted.transform(raw.copy().pick(["EOG"]))
    with pytest.raises(ValueError, match="250 features"):
        fitted.transform(np.ones((4, 20)))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"seconds": 0.0011}, "seconds: must be two samples or more at 250 Hz"),
        ({"seconds": float("nan")}, "seconds"),
        ({"sfreq": 100.0}, "sfreq: the recording is sampled at 250 Hz, given 100"),
        ({"verbose": "ERROR"}, "verbose: must be bool"),
        ({"artefacts": ("eyes",)}, "artefacts: must be of eye, heart, muscle, line.*, given 'eyes'"),
        ({"eye_movements": "/nowhere/eog.npz"}, "eye_movements: must be an npz file"),
        ({"k": 65}, "k: between 1 and n_features = 64, given 65"),
        ({"alpha": 1.0}, "alpha: a penalty needs n_saes of 2 or more"),
    ],
)
def test_impossible_values_are_refused(raw, values, words):
    with pytest.raises(ConfigError, match=words):
        EEGDenoiser(**{**SMALL, **values}).fit(raw)


def test_an_offset_is_warned_of(raw, fitted):
    shifted = raw.copy().apply_function(lambda x: x + 1e-3, picks=["Cz"])
    with pytest.warns(UserWarning, match="channel 'Cz' has an offset"):
        fitted.transform(shifted)


def test_the_lines_of_the_book_work(tmp_path, monkeypatch, raw):
    """From a Raw to a denoised Raw, as the page says it; only with fewer steps."""
    page = (PROJECT / "book" / "denoising.md").read_text(encoding="utf-8")
    code = page.partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    recorded = raw.copy().load_data()
    for name in ("clean_raw.fif", "recorded_raw.fif"):
        recorded.save(name, verbose="ERROR")
    assert "steps=500" in code
    with mne.utils.use_log_level("ERROR"):
        exec(code.replace("steps=500", "steps=3"), {})
        out = mne.io.read_raw_fif("denoised_raw.fif")
    assert out.info["bads"] == raw.info["bads"]
    assert out.annotations.description.tolist() == ["eyes closed"]
