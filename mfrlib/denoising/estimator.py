"""The EEG denoiser: a scikit-learn-style estimator that takes arrays, `mne.io.Raw`, `mne.Epochs` or `mne.Evoked` and gives the same back."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mfrlib.config import checked, require
from mfrlib.data.eeg.recording import import_mne
from mfrlib.denoising import recordings
from mfrlib.denoising.artefacts import KINDS
from mfrlib.denoising.noisy_windows import Bank, GivenPairs, NoisyWindows
from mfrlib.denoising.recordings import Recordings, as_windows, is_epochs, is_mne, same_rate
from mfrlib.denoising.stack import denoising_loss, estimates, overlap_add
from mfrlib.environment import needed
from mfrlib.training.config import TrainingConfig
from mfrlib.training.loop import train

with needed("EEGDenoiser"):
    from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data

_TYPES = {"seconds": float, "overlap": float, "sfreq": float | None, "steps": int, "reject_by_annotation": bool,
          "verbose": bool | int | None}  # fmt: skip


class EEGDenoiser(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Denoise EEG by sparse autoencoders that were trained from noisy windows to clean ones.

    Fit it on recordings that are clean: known artefacts are mixed into them (`mfrlib.denoising.artefacts`). Or give pairs. What
    comes back is the mean over the SAEs of the stack, put together by overlap-add, so that no window edge shows.

    Every EEG channel goes through by itself, so the channels keep their order and reference; other channel types, and
    channels in `info["bads"]`, come back as they are. High-pass the recording first (0.5 Hz or so): windows keep their mean.

    Parameters
    ----------
    n_features : int
        Features per SAE.
    k : int or sequence of int
        Active features per window, one for all SAEs or one each.
    n_saes : int
        SAEs trained side by side.
    alpha : float or "calibrate"
        Weight of MFR's mutual penalty; 0: none. Needs two SAEs or more.
    reinit : {"off", "window", "always"}
        MFR's conditional re-initialisation.
    artefacts : sequence of {"eye", "heart", "muscle", "line"}, or one of them
        What is mixed into clean recordings, by default all four; empty: nothing, and the SAEs learn to reconstruct, as in the paper.
    eye_movements : path-like, optional
        Recorded eye movements (`mfrlib.denoising.artefacts.load_eye_movements`); by default those below `MFR_DATA`, and
        where there are none, simulated ones.
    seconds : float
        Length of a window of MNE objects, to the nearest sample. The window of an array is its row.
    overlap : float
        Share of a window that the next one covers, from 0 to less than 1.
    sfreq : float, optional
        Sampling rate of arrays in Hz, needed to mix artefacts into them; without it the SAEs learn to reconstruct.
    steps, batch_size, learning_rate, device
        Of training.
    random_state : int, RandomState or None
        Decides weights, batches and artefacts.
    reject_by_annotation : bool
        Leave out of training what a Raw has annotated as bad (`BAD_…`), and let no window lie across the seam of joined
        recordings, as MNE's own estimators do. What is denoised is all of a Raw; but samples annotated as bad that are NaN or
        Inf come back as they are, as do stretches between them that are shorter than a window.
    verbose : bool
        Show a progress bar.

    Attributes
    ----------
    sae_ : TopKSAE
        The stack, in double precision.
    n_features_in_ : int
        Samples of a window.
    sfreq_ : float or None
        Sampling rate in Hz.
    ch_names_ : list of str or None
        EEG channels, where it was fitted on MNE objects.
    alpha_ : float
        Weight of the penalty, as used.

    Examples
    --------
    >>> import numpy as np
    >>> from mfrlib import EEGDenoiser
    >>> windows = np.sin(np.linspace(0, 6, 50) + np.arange(40)[:, None])
    >>> denoiser = EEGDenoiser(n_features=64, k=4, steps=5, batch_size=16).fit(windows)
    >>> denoiser.transform(windows).shape
    (40, 50)
    """

    def __init__(
        self, n_features: int = 512, k: int | Sequence[int] = 36, *, n_saes: int = 1, alpha: float | str = 0.0,
        reinit: str = "off", artefacts: Sequence[str] = KINDS, eye_movements: Any = None, seconds: float = 1.0,
        overlap: float = 0.5, sfreq: float | None = None, steps: int = 500, batch_size: int = 256,
        learning_rate: float = 0.001, random_state: Any = 0, reject_by_annotation: bool = True, device: str = "cpu",
        verbose: bool = False,
    ) -> None:  # fmt: skip
        self.n_features = n_features
        self.k = k
        self.n_saes = n_saes
        self.alpha = alpha
        self.reinit = reinit
        self.artefacts = artefacts
        self.eye_movements = eye_movements
        self.seconds = seconds
        self.overlap = overlap
        self.sfreq = sfreq
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state
        self.reject_by_annotation = reject_by_annotation
        self.device = device
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        """Say that single precision stays single."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def fit(self, X: Any, y: Any = None, *, clean: Any = None) -> Self:
        """Train the stack.

        Parameters
        ----------
        X : ndarray (n_windows, n_times) or (n_epochs, n_channels, n_times), Raw, Epochs, Evoked, or a sequence of them
            Clean recordings; noisy ones where `clean` is given. Volts for MNE objects, any unit for arrays.
        clean : as X, optional
            The clean counterpart of X, sample by sample. Not `y`, which is for labels and not used.

        Raises
        ------
        ConfigError
            Naming the parameter or the channel: an impossible value, a flat channel, a value that is not finite, a
            sampling rate under 120 Hz or over 20 kHz where artefacts are mixed in, recordings that differ in rate or channels, or are shorter than a window.
            For arrays scikit-learn raises ValueError for NaN and other widths, and flat rows are accepted.
        """
        recordings.require_no_recordings(y, X)
        checked({name: getattr(self, name) for name in _TYPES}, _TYPES)
        require(0 <= self.overlap < 1, "overlap", self.overlap, "must be from 0 to less than 1")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.sfreq_: float | None
        self.ch_names_: list[str] | None
        if is_mne(X):
            require(clean is None or is_mne(clean), "clean", type(clean).__name__, "must be MNE objects, as X is")
            first = self._recordings(X, clean)
            second = None if clean is None else self._recordings(clean, X, first).signals
            signals, self.sfreq_, self.ch_names_ = first.signals, first.rate, first.names
            self.n_features_in_ = self._width(first.rate)
        else:
            signals = [validate_data(self, as_windows(X), dtype=[np.float64, np.float32])]
            second = None
            if clean is not None:
                second = [validate_data(self, as_windows(clean), dtype=signals[0].dtype, reset=False)]
            self.sfreq_, self.ch_names_ = None if self.sfreq is None else float(self.sfreq), None
        width = self.n_features_in_
        if second is not None:
            shapes = [one.shape for one in second], [one.shape for one in signals]
            require(shapes[0] == shapes[1], "clean", shapes[0], f"must be of the shapes {shapes[1]}")
            source: Any = GivenPairs.of(signals, second, width, self.batch_size, seed)
        else:
            bank = Bank.of(self.artefacts, self.sfreq_, seed, self.eye_movements)
            source = NoisyWindows.of(signals, width, bank, self.batch_size, seed)
        settings: dict[str, Any] = {
            "seed": seed, "steps": self.steps, "batch_size": self.batch_size, "n_saes": self.n_saes,
            "n_features": self.n_features, "k": self.k, "alpha": self.alpha, "calibration": "loss", "reinit": self.reinit,
            "learning_rate": self.learning_rate, "device": self.device, "warmup": min(100, self.steps // 4),
        }  # fmt: skip
        trained = train(TrainingConfig(**settings), source, objective=denoising_loss, progress=self.verbose)
        self.sae_, self.alpha_ = trained.sae.cpu().double(), trained.alpha
        return self

    def transform(self, X: Any) -> Any:
        """Return the denoised recording, of the kind that X is; X stays as it is.

        Raises
        ------
        ConfigError
            If the sampling rate or the EEG channels are not those fitted, a channel is flat, or not finite outside of spans
            that a Raw has annotated as bad, or X is shorter than a window. ValueError for arrays with NaN or of another width; NotFittedError before `fit`.
        """
        check_is_fitted(self)
        if not is_mne(X):
            windows = validate_data(self, as_windows(X), dtype=[np.float64, np.float32], reset=False)
            found = self._denoised(windows.astype(np.float64)).astype(windows.dtype, copy=False)
            return found.reshape(X.shape) if is_epochs(X) else found
        require(self.sfreq_ is not None, "X", type(X).__name__, "fitted on arrays without a sampling rate: give sfreq")
        rate, names = float(X.info["sfreq"]), recordings.eeg_names(X)
        fitted = self.sfreq_ or 0.0
        require(same_rate(rate, fitted), "sfreq", rate, f"fitted on {fitted:.10g} Hz: resample the recording")
        known = set(names if self.ch_names_ is None else self.ch_names_)
        allowed = f"fitted on other ones: missing {sorted(known - {*names})}, not fitted {sorted({*names} - known)}"
        require(set(names) == known, "channels", names, allowed)
        width, good = self.n_features_in_, recordings.good_names(X)
        spans = recordings.to_denoise(X, good, width, self.reject_by_annotation)
        found = X.copy()
        if hasattr(found, "load_data"):
            found.load_data()
        if not good:
            return found

        def denoise(signals: NDArray[Any]) -> NDArray[Any]:
            rows = signals.reshape(-1, signals.shape[-1]).copy()
            for one in spans:
                rows[:, one] = overlap_add(rows[:, one], width, self._denoised, self.overlap)
            return rows.reshape(signals.shape)

        with import_mne().utils.use_log_level("ERROR"):
            return found.apply_function(denoise, picks=good, channel_wise=False)

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """Train the stack on X, and return X denoised; see `fit` and `transform`."""
        return self.fit(X, y, **fit_params).transform(X)

    def _denoised(self, windows: NDArray[Any]) -> NDArray[Any]:
        return estimates(self.sae_, windows).mean(0)

    def _width(self, rate: float) -> int:
        width = round(self.seconds * rate) if np.isfinite(self.seconds) else 0
        require(width >= 2, "seconds", self.seconds, f"must be two samples or more at {rate:.10g} Hz")
        return width

    def _recordings(self, X: Any, beside: Any = None, like: Recordings | None = None) -> Recordings:
        beside = X if beside is None else beside
        found = recordings.open_recordings(X, beside, self._width, self.reject_by_annotation, like)
        sampled = f"the recording is sampled at {found.rate:.10g} Hz"
        require(self.sfreq is None or same_rate(self.sfreq, found.rate), "sfreq", self.sfreq, sampled)
        return found


EEGDenoiser.transform = recordings.as_it_came(EEGDenoiser.transform)  # type: ignore[method-assign]
EEGDenoiser.fit_transform = recordings.as_it_came(EEGDenoiser.fit_transform)  # type: ignore[method-assign]
