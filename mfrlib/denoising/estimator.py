"""The EEG denoiser: a scikit-learn-style estimator that takes arrays, `mne.io.Raw` or `mne.Epochs` and gives the same back."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

try:
    from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError("EEGDenoiser needs scikit-learn and MNE-Python: pip install 'mfrlib[eeg]'") from error

from mfrlib.config import build, require
from mfrlib.data.eeg.recording import import_mne
from mfrlib.denoising.artefacts import KINDS, Kind, default_eye_movements, load_eye_movements
from mfrlib.denoising.noisy_windows import Bank, GivenPairs, NoisyWindows, in_memory, root_mean_square
from mfrlib.denoising.stack import denoising_loss, estimates, overlap_add
from mfrlib.training.loop import TrainingConfig, train

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
    artefacts : sequence of {"eye", "heart", "muscle", "line"}
        What is mixed into clean recordings; empty: nothing, and the SAEs learn to reconstruct, as in the paper.
    eye_movements : path-like, optional
        Recorded eye movements (`mfrlib.denoising.artefacts.load_eye_movements`); by default those below `MFR_DATA`, and
        where there are none, simulated ones.
    seconds : float
        Length of a window of MNE objects. The window of an array is its row.
    overlap : float
        Share of a window that the next one covers, from 0 to less than 1.
    sfreq : float, optional
        Sampling rate of arrays in Hz, needed to mix artefacts into them; without it the SAEs learn to reconstruct.
    steps, batch_size, learning_rate
        Of training.
    random_state : int, RandomState or None
        Decides weights, batches and artefacts.
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
        X : ndarray (n_windows, n_times), Raw, Epochs, or a sequence of Raw or Epochs
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
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        second: list[NDArray[Any]] | None
        self.sfreq_: float | None
        self.ch_names_: list[str] | None
        if _is_mne(X):
            require(clean is None or _is_mne(clean), "clean", type(clean).__name__, "must be MNE objects, as X is")
            opened, second = self._opened(X, clean), None
            width, signals = self._width(opened.rate), opened.signals
            if clean is not None:
                other = self._opened(clean, X)
                require(other[:2] == opened[:2], "clean", other[:2], f"must have the rate and channels {opened[:2]}")
                second = other.signals
            self.n_features_in_, self.sfreq_, self.ch_names_ = width, opened.rate, opened.names
        else:
            windows = validate_data(self, X, dtype=[np.float64, np.float32])
            signals, width = [windows], self.n_features_in_
            second = None if clean is None else [validate_data(self, clean, dtype=windows.dtype, reset=False)]
            self.sfreq_, self.ch_names_ = self.sfreq, None
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
        if not _is_mne(X):
            windows = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
            return self._windows(windows.astype(np.float64)).astype(windows.dtype, copy=False)
        require(hasattr(X, "info"), "X", type(X).__name__, "must be one Raw or Epochs, not a sequence")
        require(self.sfreq_ is not None, "X", type(X).__name__, "fitted on arrays without a sampling rate: give sfreq")
        rate, names = float(X.info["sfreq"]), _eeg_names(X)
        require(rate == self.sfreq_, "sfreq", rate, f"fitted on {self.sfreq_:g} Hz: resample the recording")
        if self.ch_names_ is not None and set(names) != set(self.ch_names_):
            missing, other = sorted(set(self.ch_names_) - set(names)), sorted(set(names) - set(self.ch_names_))
            require(False, "channels", names, f"fitted on other ones: missing {missing}, not fitted {other}")
        width = self.n_features_in_
        _check(X, width)
        good = _good(X)
        found = X.copy().load_data()
        if not good:
            return found

        def denoise(signals: NDArray[Any]) -> NDArray[Any]:
            rows = signals.reshape(-1, signals.shape[-1])
            return overlap_add(rows, width, self._windows, self.overlap).reshape(signals.shape)

        with import_mne().utils.use_log_level("ERROR"):
            return found.apply_function(denoise, picks=good, channel_wise=False)

    def _windows(self, windows: NDArray[Any]) -> NDArray[Any]:
        return estimates(self.sae_, windows).mean(0)

    def _width(self, rate: float) -> int:
        width = round(self.seconds * rate) if np.isfinite(self.seconds) else 0
        whole = width >= 2 and abs(self.seconds * rate - width) < 1e-6
        require(whole, "seconds", self.seconds, f"must be a whole number of samples, two or more, at {rate:g} Hz")
        return width

    def _opened(self, X: Any, beside: Any = None) -> "_Opened":
        """Check MNE objects and open them: channels in the order of the first, without those that are bad here or in `beside`."""
        recordings, others = (
            [one] if hasattr(one, "info") else list(one) for one in (X, X if beside is None else beside)
        )
        require(
            len(recordings) == len(others),
            "clean",
            f"{len(others)} and {len(recordings)}",
            "must be as many recordings as X",
        )
        rate, names = float(recordings[0].info["sfreq"]), _eeg_names(recordings[0])
        require(self.sfreq in (None, rate), "sfreq", self.sfreq, f"the recording is sampled at {rate:g} Hz")
        signals = []
        for one, other in zip(recordings, others, strict=True):
            its_rate = float(one.info["sfreq"])
            require(
                its_rate == rate, "sfreq", its_rate, f"all recordings must be sampled alike, the first at {rate:g} Hz"
            )
            require(
                set(_eeg_names(one)) == set(names), "channels", _eeg_names(one), f"must be {names} in all recordings"
            )
            _check(one, self._width(rate))
            good = [name for name in names if name not in {*one.info["bads"], *other.info["bads"]}]
            require(bool(good), "channels", names, "at least one must not be marked bad")
            signals.append(_data(one, good).reshape(-1, len(one.times)))
        return _Opened(rate, names, signals)

    def _mixed(self, signals: Sequence[NDArray[Any]], width: int, seed: int) -> NoisyWindows:
        """Return pairs made from clean signals."""
        bank = None
        if self.sfreq_ is not None and len(self.artefacts) > 0:
            for kind in self.artefacts:
                require(kind in KINDS, "artefacts", kind, f"must be of {', '.join(KINDS)}")
            path = self.eye_movements or default_eye_movements()
            eyes = load_eye_movements(path) if path else None
            kinds: list[Kind] = [kind for kind in KINDS if kind in self.artefacts]
            bank = Bank.draw(self.sfreq_, seed, kinds, eyes)
        length = min(_LONG * width, min(one.shape[1] for one in signals))
        long = _cut(signals, length, length)
        scale = root_mean_square(long)
        long = long / np.where(scale > 0, scale, 1)
        return NoisyWindows(in_memory(long, self.batch_size, seed), width, bank, seed)

    def _training_fields(self, seed: int) -> dict[str, Any]:
        ks = self.k if isinstance(self.k, int) else tuple(self.k)
        return {
            "seed": seed, "steps": self.steps, "batch_size": self.batch_size, "n_saes": self.n_saes,
            "n_features": self.n_features, "k": ks, "alpha": self.alpha, "calibration": "loss", "reinit": self.reinit,
            "learning_rate": self.learning_rate, "device": self.device, "warmup": min(100, self.steps // 4),
        }  # fmt: skip


class _Opened(NamedTuple):
    """MNE objects: sampling rate, EEG channels, and the signals of the good ones, `(n_signals, n_times)` each."""

    rate: float
    names: list[str]
    signals: list[NDArray[Any]]


def _is_mne(X: Any) -> bool:
    """Tell MNE objects, or a sequence of them, from arrays."""
    if isinstance(X, list | tuple) and len(X):
        return all(_is_mne(one) for one in X)
    return hasattr(X, "info") and hasattr(X, "ch_names")


def _eeg_names(one: Any) -> list[str]:
    mne = import_mne()
    kinds = mne.io.BaseRaw, mne.BaseEpochs
    require(isinstance(one, kinds), "X", type(one).__name__, "must be an array (n_windows, n_times), Raw or Epochs")
    names = [one.ch_names[i] for i in mne.pick_types(one.info, eeg=True, exclude=())]
    require(bool(names), "channels", one.ch_names, "at least one must be of type EEG")
    return names


def _good(one: Any) -> list[str]:
    return [name for name in _eeg_names(one) if name not in one.info["bads"]]


def _data(one: Any, names: Sequence[str]) -> NDArray[np.float64]:
    return one.get_data(picks=names, verbose="ERROR") if names else np.zeros((0, len(one.times)))


def _check(one: Any, width: int) -> None:
    """Refuse recordings that are too short, flat or not finite, naming the channel."""
    n_times = len(one.times)
    require(n_times >= width, "X", f"{n_times} samples", f"must be as long as a window, {width} samples, or longer")
    for name in _good(one):
        x = _data(one, [name])
        require(bool(np.isfinite(x).all()), "X", f"channel {name!r} with NaN or Inf", "must be finite, or marked bad")
        allowed = 'must not be flat throughout: mark it in info["bads"], or drop it'
        require(bool(np.ptp(x) > 0), "X", f"channel {name!r}", allowed)
        if abs(x.mean()) > x.std():
            warnings.warn(
                f"channel {name!r} has an offset larger than its fluctuations: high-pass it first", stacklevel=4
            )


def _cut(signals: Sequence[NDArray[Any]], width: int, hop: int) -> NDArray[Any]:
    """Cut signals into windows `(n_windows, width)`."""
    views = [np.lib.stride_tricks.sliding_window_view(one, width, axis=1)[:, :: max(1, hop)] for one in signals]
    return np.concatenate([view.reshape(-1, width) for view in views])
