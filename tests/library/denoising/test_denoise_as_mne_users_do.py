"""The denoiser with the habits of MNE and scikit-learn: rates, annotations, containers, parameter searches, messages."""

import warnings

import numpy as np
import pytest
import torch

sklearn = pytest.importorskip("sklearn")
mne = pytest.importorskip("mne")

from sklearn.model_selection import GridSearchCV  # noqa: E402

from mfrlib.config import ConfigError  # noqa: E402
from mfrlib.denoising.estimator import EEGDenoiser  # noqa: E402

SMALL = {"n_features": 64, "k": 4, "steps": 3, "batch_size": 16}


@pytest.fixture(autouse=True)
def quiet():
    with mne.utils.use_log_level("ERROR"), warnings.catch_warnings():
        yield


def recording(rate=250.0, seconds=10.0, n=3, seed=0):
    draws, t = np.random.default_rng(seed), np.arange(int(seconds * rate)) / rate
    x = 1e-5 * np.sin(2 * np.pi * 10 * t + np.arange(n)[:, None]) + 1e-6 * draws.standard_normal((n, len(t)))
    return mne.io.RawArray(x, mne.create_info([f"E{i}" for i in range(n)], rate, "eeg"))


def fitted(X, **values):
    return EEGDenoiser(**{**SMALL, **values}).fit(X)


class TestRates:
    @pytest.mark.parametrize("rate", [250.0, 600.614990234375, 1e6 / 976.563, 249.9, 128.0000001, 333.3333])
    def test_any_rate_has_windows_to_the_nearest_sample(self, rate):
        raw = recording(rate)
        found = fitted(raw)
        assert found.n_features_in_ == round(rate)
        assert found.transform(raw).get_data().shape == raw.get_data().shape

    @pytest.mark.parametrize("rate", [249.9, 600.614990234375])
    def test_a_rate_that_went_through_single_precision_is_the_same(self, rate, tmp_path):
        raw = recording(rate)
        raw.save(tmp_path / "x_raw.fif")
        again = mne.io.read_raw_fif(tmp_path / "x_raw.fif")
        fitted(raw).transform(again)
        fitted([raw, again], sfreq=np.float32(rate))
        fitted(again).transform(raw)
        EEGDenoiser(**SMALL).fit(again, clean=raw)

    def test_another_rate_is_another(self):
        found = fitted(recording(250.0))
        for rate in (250.1, 249.9, 125.0):
            with pytest.raises(ConfigError, match="fitted on 250 Hz: resample the recording"):
                found.transform(recording(rate))

    def test_a_message_shows_the_difference(self):
        with pytest.raises(ConfigError, match=r"sampled at 249.8 Hz, given 249.9"):
            fitted(recording(249.8), sfreq=249.9)

    def test_a_slow_recording_is_told_the_way_out(self):
        with pytest.raises(ConfigError, match=r"120 to 20000 Hz to mix artefacts in: resample, or give artefacts=\(\)"):
            fitted(recording(100.0))
        assert fitted(recording(100.0), artefacts=()).n_features_in_ == 100
        assert fitted(recording(3.7, seconds=100), artefacts=(), seconds=10.0).n_features_in_ == 37


def test_a_sequence_is_refused_before_anything_is_learnt(monkeypatch):
    monkeypatch.setattr(EEGDenoiser, "fit", lambda *_, **__: pytest.fail("fitted"))
    for call in (EEGDenoiser().fit_transform, EEGDenoiser().transform):
        with pytest.raises(ConfigError, match="X: must be one Raw, Epochs or Evoked, not a sequence, given 'list'"):
            call([recording(), recording()])


LEARN = {"n_features": 64, "k": 4, "steps": 5, "batch_size": 64, "artefacts": ()}


class TestAnnotations:
    def broken(self, description="BAD_electrode_off", value=None):
        """Return a recording whose middle third is no signal, annotated, and its two good thirds."""
        raw = recording(seconds=60, n=2)
        good = [raw.copy().crop(tmax=20, include_tmax=False), raw.copy().crop(tmin=40)]
        raw._data[:, 5000:10000] = value if value is not None else 0.5 * np.sign(np.sin(np.arange(5000) / 13))
        return raw.set_annotations(mne.Annotations([20], [20], [description])), good

    @pytest.mark.parametrize("description", ["BAD_electrode_off", "bad", "Bad segment"])
    def test_what_is_annotated_as_bad_is_left_out(self, description):
        raw, good = self.broken(description)
        assert torch.equal(fitted(raw, **LEARN).sae_.weight, fitted(good, **LEARN).sae_.weight)

    def test_unless_it_is_asked_for(self):
        raw, _ = self.broken()
        plain = raw.copy().set_annotations(None)
        weight = fitted(plain, **LEARN).sae_.weight
        assert not torch.equal(fitted(raw, **LEARN).sae_.weight, weight)
        assert torch.equal(fitted(raw, **LEARN, reject_by_annotation=False).sae_.weight, weight)

    def test_other_annotations_leave_nothing_out(self):
        raw, _ = self.broken("eyes closed")
        weight = fitted(raw.copy().set_annotations(None), **LEARN).sae_.weight
        assert torch.equal(fitted(raw, **LEARN).sae_.weight, weight)

    def test_what_is_no_number_may_stand_in_a_bad_span(self):
        raw, good = self.broken(value=np.nan)
        assert torch.equal(fitted(raw, **LEARN).sae_.weight, fitted(good, **LEARN).sae_.weight)
        with pytest.raises(ConfigError, match="NaN"):
            fitted(raw.set_annotations(None), **LEARN)

    def test_such_a_span_comes_back_as_it_is_and_the_rest_is_denoised(self):
        raw, good = self.broken(value=np.nan)
        found = fitted(good, **LEARN)
        out = found.transform(raw).get_data()
        assert np.isnan(out[:, 5000:10000]).all()
        for part, whole in zip((out[:, :5000], out[:, 10000:]), good, strict=True):
            np.testing.assert_array_equal(part, found.transform(whole).get_data())
        with pytest.raises(ConfigError, match="annotate the span of a Raw as BAD_"):
            found.transform(raw.copy().set_annotations(None))
        raw._data[:] = np.nan
        raw.set_annotations(mne.Annotations([0], [60], ["BAD_all"]))
        with pytest.raises(ConfigError, match="must be finite for a window, 250 samples"):
            found.transform(raw)

    def test_a_bad_span_of_numbers_is_denoised(self):
        raw, good = self.broken()
        found = fitted(good, **LEARN)
        plain = found.transform(raw.copy().set_annotations(None)).get_data()
        np.testing.assert_array_equal(found.transform(raw).get_data(), plain)

    def test_no_window_lies_across_a_seam(self):
        parts = [recording(seconds=9, n=2, seed=seed) for seed in range(2)]
        joined = mne.concatenate_raws([one.copy() for one in parts])
        assert torch.equal(fitted(joined, **LEARN).sae_.weight, fitted(parts, **LEARN).sae_.weight)

    @pytest.mark.parametrize("dated", [False, True])
    def test_a_cropped_recording_keeps_its_annotations_in_place(self, dated):
        raw, good = self.broken()
        if dated:
            raw.set_meas_date(10**9)
        cropped = raw.copy().crop(tmin=10)
        expected = [good[0].copy().crop(tmin=10), good[1]]
        assert torch.equal(fitted(cropped, **LEARN).sae_.weight, fitted(expected, **LEARN).sae_.weight)

    @pytest.mark.parametrize("which", ["noisy", "clean"])
    def test_a_pair_is_left_out_where_either_is_bad(self, which):
        raw, good = self.broken()
        other = raw.copy().set_annotations(None)
        noisy, clean = (raw, other) if which == "noisy" else (other, raw)
        found = EEGDenoiser(**LEARN).fit(noisy, clean=clean).sae_.weight
        assert torch.equal(found, EEGDenoiser(**LEARN).fit(good, clean=good).sae_.weight)

    def test_nothing_good_is_refused_with_the_way_out(self):
        raw = recording().set_annotations(mne.Annotations([0.2, 1.0], [0.6, 9.0], ["BAD_a", "BAD_b"]))
        with pytest.raises(ConfigError, match="not annotated as BAD; reject_by_annotation=False takes all"):
            fitted(raw)

    def test_all_comes_back(self):
        raw, _ = self.broken()
        out = fitted(raw, **LEARN).transform(raw)
        assert out.get_data().shape == raw.get_data().shape
        assert list(out.annotations.description) == ["BAD_electrode_off"]


class TestContainers:
    def test_set_output_makes_tables_of_windows_only(self):
        raw, windows = recording(), np.random.default_rng(0).standard_normal((40, 50))
        table = fitted(windows).set_output(transform="pandas").transform(windows)
        assert list(table.columns[:2]) == ["x0", "x1"]
        whole = EEGDenoiser(**SMALL).set_output(transform="pandas")
        assert isinstance(whole.fit(raw).transform(raw), mne.io.BaseRaw)
        assert isinstance(whole.fit_transform(raw), mne.io.BaseRaw)
        with sklearn.config_context(transform_output="pandas"):
            assert isinstance(fitted(raw).transform(raw), mne.io.BaseRaw)
            assert type(EEGDenoiser(**SMALL).fit_transform(windows)).__name__ == "DataFrame"
            assert isinstance(fitted(windows).transform(windows[None]), np.ndarray)

    def test_arrays_of_epochs(self):
        x = np.random.default_rng(0).standard_normal((10, 4, 50))
        found = fitted(x)
        assert torch.equal(found.sae_.weight, fitted(x.reshape(-1, 50)).sae_.weight)
        out = found.transform(x)
        assert out.shape == x.shape
        assert np.array_equal(out.reshape(-1, 50), found.transform(x.reshape(-1, 50)))
        assert np.array_equal(EEGDenoiser(**SMALL).fit_transform(x), out)
        assert EEGDenoiser(**SMALL).fit(x, clean=x).n_features_in_ == 50
        with pytest.raises(ValueError, match="50 features"):
            found.transform(x[..., :20])
        with pytest.raises(ValueError, match="dim 4"):
            found.transform(x[None])

    def test_epochs_and_their_data(self):
        raw = recording()
        epochs = mne.make_fixed_length_epochs(raw, 1.0, preload=True)
        found = fitted(epochs.get_data(), sfreq=250.0)
        assert found.transform(epochs.get_data()).shape == epochs.get_data().shape
        assert found.transform(epochs).get_data().shape == epochs.get_data().shape

    def test_an_evoked_in_an_evoked_out(self):
        evoked = mne.make_fixed_length_epochs(recording(), 2.0, preload=True).average()
        before = evoked.data.copy()
        out = fitted(recording()).transform(evoked)
        assert isinstance(out, mne.Evoked)
        assert out.nave == evoked.nave
        assert not np.allclose(out.data, before, rtol=1e-3, atol=0)
        assert np.array_equal(evoked.data, before)
        assert fitted([evoked, evoked]).n_features_in_ == 250


WINDOWS = np.random.default_rng(0).standard_normal((40, 50))


class TestParameterSearch:
    @pytest.mark.parametrize(
        "values",
        [
            {"k": np.int64(4)},
            {"k": np.array([4, 8]), "n_saes": np.int32(2)},
            {"n_features": np.int64(64), "steps": np.uint8(3), "batch_size": np.int16(16)},
            {"learning_rate": np.float32(0.01), "alpha": np.float64(0.5), "n_saes": 2},
            {"artefacts": np.array(["eye", "line"]), "sfreq": np.float32(250)},
            {"artefacts": "eye", "sfreq": 250},
            {"random_state": np.int64(3), "seconds": np.float32(0.5), "overlap": np.float64(0.25)},
        ],
    )
    def test_values_of_numpy_are_values(self, values):
        found = fitted(WINDOWS, **values)
        python = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in values.items()}
        assert torch.equal(found.sae_.weight, fitted(WINDOWS, **python).sae_.weight)

    def test_a_grid_over_arrays(self):
        grid = {"n_features": np.array([32, 64]), "k": np.arange(2, 4), "learning_rate": np.array([0.01], "f4")}

        def score(estimator, X, y=None):
            return -((estimator.transform(X) - X) ** 2).mean()

        search = GridSearchCV(EEGDenoiser(**SMALL), grid, cv=2, error_score="raise", scoring=score)
        assert search.fit(WINDOWS).best_params_["n_features"] in (32, 64)

    @pytest.mark.parametrize("values", [{"k": True}, {"k": np.True_}, {"n_features": 64.0}, {"steps": np.float64(3)}])
    def test_what_is_no_integer_is_refused(self, values):
        with pytest.raises(ConfigError, match="must be int"):
            fitted(WINDOWS, **values)


class TestMessages:
    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"artefacts": "eyes"}, "given 'eyes'"),
            ({"artefacts": ("eye", "blink")}, r"or artefacts=\(\) for none, given 'blink'"),
            ({"artefacts": None}, r"or artefacts=\(\) for none, given None"),
            ({"overlap": 1.0}, "overlap: must be from 0 to less than 1, given 1.0"),
            *(
                ({name: "3"}, f"{name}: must be .*, given '3'")
                for name in ("seconds", "overlap", "sfreq", "steps", "k")
            ),
            ({"artefacts": 3}, r"or artefacts=\(\) for none, given 3"),
            ({"eye_movements": "/nowhere.npz"}, "eye_movements: must be an npz file.*nowhere"),
            ({"eye_movements": 3, "artefacts": ()}, "eye_movements: must be an npz file.*given 3"),
            ({"reject_by_annotation": "no"}, "reject_by_annotation: must be bool"),
            ({"seconds": 0.001}, "seconds: must be two samples or more at 250 Hz"),
        ],
    )
    def test_values(self, values, said):
        with pytest.raises(ConfigError, match=said):
            fitted(recording(), **values)

    @pytest.mark.parametrize("rate", [np.inf, 1e5, 100.0, -1.0, np.nan])
    def test_rates_of_arrays_at_which_no_artefact_is_drawn(self, rate):
        with pytest.raises(ConfigError, match=r"sfreq: must be 120 to 20000 Hz .*artefacts=\(\)"):
            fitted(WINDOWS, sfreq=rate)

    def test_containers(self):
        masked = np.ma.masked_array(WINDOWS, WINDOWS.mean() < WINDOWS)
        epochs = mne.make_fixed_length_epochs(recording(), 1.0, preload=True)
        for X, words in (
            (masked, "must have no masked entry"),
            ([recording(), WINDOWS], "X: must be an array .*, given 'ndarray'"),
            (epochs[[]], "without epochs"),
        ):
            with pytest.raises(ConfigError, match=words):
                fitted(X)

    def test_clean_recordings_given_as_y_are_not_passed_over(self):
        """The SAEs would learn to give the noisy ones back."""
        raw = recording()
        for X in (raw, [raw], WINDOWS, WINDOWS[None]):
            with pytest.raises(ConfigError, match="y: is not used; give the clean recordings as clean="):
                EEGDenoiser(**SMALL).fit(X, X)
        labels = np.arange(len(WINDOWS)) % 2
        assert EEGDenoiser(**SMALL).fit_transform(WINDOWS, labels).shape == WINDOWS.shape

    def test_channels(self):
        with pytest.raises(ConfigError, match="set_channel_types says which are"):
            fitted(recording().set_channel_types(dict.fromkeys(["E0", "E1", "E2"], "seeg")))
        with pytest.raises(ConfigError, match="seconds is the length of a window"):
            fitted(recording(seconds=0.5))
