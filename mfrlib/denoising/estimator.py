"""The EEG denoiser: a scikit-learn-style estimator that takes arrays, `mne.io.Raw`, `mne.Epochs` or `mne.Evoked` and gives the same back."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

try:
    from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError("EEGDenoiser needs scikit-learn and MNE-Python: pip install 'mfrlib[eeg]'") from error

from mfrlib.config import build, checked, plain, require
from mfrlib.data.eeg.recording import import_mne
from mfrlib.denoising.artefacts import KINDS, LOWEST_RATE, Kind, default_eye_movements, load_eye_movements
from mfrlib.denoising.noisy_windows import Bank, GivenPairs, NoisyWindows, in_memory, root_mean_square
from mfrlib.denoising.recordings import Opened, check, eeg_names, good_names, is_mne, opened, same_rate
from mfrlib.denoising.stack import denoising_loss, estimates, overlap_add
from mfrlib.training.config import TrainingConfig
from mfrlib.training.loop import train

_NUMBERS: dict[str, Any] = {"seconds": float, "overlap": float, "sfreq": float | None, "steps": int}
_LONG = 4  # windows are cut at random places from stretches of so many windows


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
        What is mixed into clean recordings; empty: nothing, and the SAEs learn to reconstruct, as in the paper.
    eye_movements : path-like, optional
        Recorded eye movements (`mfrlib.denoising.artefacts.load_eye_movements`); by default those below `MFR_DATA`, and
        where there are none, simulated ones.
    seconds : float
        Length of a window of MNE objects, to the nearest sample. The window of an array is its row.
    overlap : float
        Share of a window that the next one covers, from 0 to less than 1.
    sfreq : float, optional
        Sampling rate of arrays in Hz, needed to mix artefacts into them; without it the SAEs learn to reconstruct.
    steps, batch_size, learning_rate
        Of training.
    random_state : int, RandomState or None
        Decides weights, batches and artefacts.
    reject_by_annotation : bool
        Leave out of training what a Raw has annotated as bad (`BAD_…`), and let no window lie across the seam of joined
        recordings, as MNE's own estimators do.
    device : str
        Where training runs.
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
    >>> windows = np.sin(np.linspace(0, 6, 50) + np.arange(40)[:, None])
    >>> denoiser = EEGDenoiser(n_features=64, k=4, steps=5, batch_size=16).fit(windows)
    >>> denoiser.transform(windows).shape
    (40, 50)
    """

    def __init__(
        self,
        n_features: int = 512,
        k: int | Sequence[int] = 36,
        *,
        n_saes: int = 1,
        alpha: float | str = 0.0,
        reinit: str = "off",
        artefacts: Sequence[str] = KINDS,
        eye_movements: Any = None,
        seconds: float = 1.0,
        overlap: float = 0.5,
        sfreq: float | None = None,
        steps: int = 500,
        batch_size: int = 256,
        learning_rate: float = 0.001,
        random_state: Any = 0,
        reject_by_annotation: bool = True,
        device: str = "cpu",
        verbose: bool = False,
    ) -> None:
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
        y : ignored
            There for scikit-learn's sake.
        clean : as X, optional
            The clean counterpart of X, sample by sample.

        Raises
        ------
        ConfigError
            Naming the parameter or the channel: an impossible value, a flat channel, a value that is not finite, a
            sampling rate under 120 Hz, recordings that differ in rate or channels, or are shorter than a window.
        """
        checked({name: getattr(self, name) for name in _NUMBERS}, _NUMBERS)
        require(0 <= self.overlap < 1, "overlap", self.overlap, "must be from 0 to less than 1")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        second: list[NDArray[Any]] | None
        self.sfreq_: float | None
        self.ch_names_: list[str] | None
        if is_mne(X):
            require(clean is None or is_mne(clean), "clean", type(clean).__name__, "must be MNE objects, as X is")
            first, second = self._opened(X, clean), None
            width, signals = self._width(first.rate), first.signals
            if clean is not None:
                second = self._opened(clean, X, first).signals
            self.n_features_in_, self.sfreq_, self.ch_names_ = width, first.rate, first.names
        else:
            windows = validate_data(self, _rows(X), dtype=[np.float64, np.float32])
            signals, width = [windows], self.n_features_in_
            second = None if clean is None else [validate_data(self, _rows(clean), dtype=windows.dtype, reset=False)]
            self.sfreq_, self.ch_names_ = None if self.sfreq is None else float(self.sfreq), None
        if second is not None:
            shapes = [one.shape for one in second], [one.shape for one in signals]
            require(shapes[0] == shapes[1], "clean", shapes[0], f"must be of the shapes {shapes[1]}")
            noisy, wanted = (_cut(one, width, width // 2) for one in (signals, second))
            source: Any = GivenPairs.of(noisy, wanted, self.batch_size, seed)
        else:
            source = self._mixed(signals, width, seed)
        config = build(TrainingConfig, self._training_fields(seed))
        trained = train(config, source, objective=denoising_loss, progress=self.verbose)
        self.sae_, self.alpha_ = trained.sae.cpu().double(), trained.alpha
        return self

    def transform(self, X: Any) -> Any:
        """Return the denoised recording, of the kind that X is; X stays as it is.

        Raises
        ------
        ConfigError
            If the sampling rate or the EEG channels are not those fitted, a channel is flat or not finite, or X is shorter
            than a window.
        """
        check_is_fitted(self)
        if not is_mne(X):
            windows = validate_data(self, _rows(X), dtype=[np.float64, np.float32], reset=False)
            found = self._windows(windows.astype(np.float64)).astype(windows.dtype, copy=False)
            return found.reshape(X.shape) if _is_epochs(X) else found
        require(hasattr(X, "info"), "X", type(X).__name__, "must be one Raw, Epochs or Evoked, not a sequence")
        require(self.sfreq_ is not None, "X", type(X).__name__, "fitted on arrays without a sampling rate: give sfreq")
        rate, names = float(X.info["sfreq"]), eeg_names(X)
        fitted = self.sfreq_ or 0.0
        require(same_rate(rate, fitted), "sfreq", rate, f"fitted on {fitted:.10g} Hz: resample the recording")
        if self.ch_names_ is not None and set(names) != set(self.ch_names_):
            missing, other = sorted(set(self.ch_names_) - set(names)), sorted(set(names) - set(self.ch_names_))
            require(False, "channels", names, f"fitted on other ones: missing {missing}, not fitted {other}")
        width, good = self.n_features_in_, good_names(X)
        check(X, good, width)
        found = X.copy()
        if hasattr(found, "load_data"):
            found.load_data()
        if not good:
            return found

        def denoise(signals: NDArray[Any]) -> NDArray[Any]:
            rows = signals.reshape(-1, signals.shape[-1])
            return overlap_add(rows, width, self._windows, self.overlap).reshape(signals.shape)

        with import_mne().utils.use_log_level("ERROR"):
            return found.apply_function(denoise, picks=good, channel_wise=False)

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """Train the stack on X, and return X denoised; see `fit` and `transform`."""
        return self.fit(X, y, **fit_params).transform(X)

    def _windows(self, windows: NDArray[Any]) -> NDArray[Any]:
        return estimates(self.sae_, windows).mean(0)

    def _width(self, rate: float) -> int:
        width = round(self.seconds * rate) if np.isfinite(self.seconds) else 0
        require(width >= 2, "seconds", self.seconds, f"must be two samples or more at {rate:.10g} Hz")
        return width

    def _opened(self, X: Any, beside: Any = None, like: Opened | None = None) -> Opened:
        """Check MNE objects and open them; see `mfrlib.denoising.recordings.opened`."""
        found = opened(X, X if beside is None else beside, self._width, self.reject_by_annotation, like)
        sampled = f"the recording is sampled at {found.rate:.10g} Hz"
        require(self.sfreq is None or same_rate(self.sfreq, found.rate), "sfreq", self.sfreq, sampled)
        return found

    def _mixed(self, signals: Sequence[NDArray[Any]], width: int, seed: int) -> NoisyWindows:
        """Return pairs made from clean signals."""
        bank, wanted = None, [self.artefacts] if isinstance(self.artefacts, str | None) else list(self.artefacts)
        for kind in wanted:
            require(kind in KINDS, "artefacts", kind, f"must be of {', '.join(KINDS)}, or artefacts=() for none")
        if self.sfreq_ is not None and wanted:
            allowed = f"must be {LOWEST_RATE} Hz or more to mix artefacts in: resample, or give artefacts=() to learn without any"
            require(self.sfreq_ >= LOWEST_RATE, "sfreq", self.sfreq_, allowed)
            path = self.eye_movements or default_eye_movements()
            eyes = load_eye_movements(path) if path else None
            kinds: list[Kind] = [kind for kind in KINDS if kind in wanted]
            bank = Bank.draw(self.sfreq_, seed, kinds, eyes)
        length = min(_LONG * width, min(one.shape[1] for one in signals))
        long = _cut(signals, length, length)
        scale = root_mean_square(long)
        long = long / np.where(scale > 0, scale, 1)
        return NoisyWindows(in_memory(long, self.batch_size, seed), width, bank, seed)

    def _training_fields(self, seed: int) -> dict[str, Any]:
        return {
            "seed": seed, "steps": self.steps, "batch_size": self.batch_size, "n_saes": self.n_saes,
            "n_features": self.n_features, "k": plain(self.k), "alpha": self.alpha, "calibration": "loss", "reinit": self.reinit,
            "learning_rate": self.learning_rate, "device": self.device, "warmup": min(100, self.steps // 4),
        }  # fmt: skip


def _rows(X: Any) -> Any:
    """Return an array `(n_epochs, n_channels, n_times)` as windows, and any other thing as it is."""
    return np.asarray(X).reshape(-1, X.shape[-1]) if _is_epochs(X) else X


def _is_epochs(X: Any) -> bool:
    """Tell an array `(n_epochs, n_channels, n_times)` from windows."""
    return getattr(X, "ndim", 0) == 3 and hasattr(X, "shape")


def _cut(signals: Sequence[NDArray[Any]], width: int, hop: int) -> NDArray[Any]:
    """Cut signals into windows `(n_windows, width)`."""
    views = [np.lib.stride_tricks.sliding_window_view(one, width, axis=1)[:, :: max(1, hop)] for one in signals]
    return np.concatenate([view.reshape(-1, width) for view in views])


def _as_it_came(wrapped: Callable[..., Any]) -> Callable[..., Any]:
    """Let scikit-learn's `set_output` make tables of windows only: MNE objects and arrays of epochs come back as they are."""
    plain_method = getattr(wrapped, "__wrapped__", wrapped)

    @functools.wraps(plain_method)
    def method(self: Any, X: Any, *args: Any, **options: Any) -> Any:
        call = plain_method if is_mne(X) or _is_epochs(X) else wrapped
        return call(self, X, *args, **options)

    return method


EEGDenoiser.transform = _as_it_came(EEGDenoiser.transform)  # type: ignore[method-assign]
EEGDenoiser.fit_transform = _as_it_came(EEGDenoiser.fit_transform)  # type: ignore[method-assign]
