"""What a practitioner would use instead of an SAE: each takes an `mne.io.Raw` and returns its EEG, `(n_channels, n_times)`."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pywt
from numpy.typing import NDArray

from mfrlib.data.eeg import preprocessing
from mfrlib.data.eeg.recording import import_mne
from mfrlib.denoising.artefacts import Kind
from mfrlib.denoising.stack import overlap_add

EEG = NDArray[Any]


def nothing(raw: Any) -> EEG:
    """Leave the recording as it is."""
    return raw.get_data(picks="eeg", verbose="ERROR")


def band_pass(raw: Any) -> EEG:
    """Filter by a Butterworth design forwards and backwards, the filter that the clean recordings went through."""
    return preprocessing.band_pass(nothing(raw), raw.info["sfreq"], preprocessing.Preprocessing())


def notch(raw: Any) -> EEG:
    """Filter out mains of 50 Hz and its harmonics, by MNE's notch filter."""
    rate = float(raw.info["sfreq"])
    frequencies = np.arange(50.0, rate / 2 - 2, 50.0)
    return import_mne().filter.notch_filter(nothing(raw), rate, frequencies, verbose="ERROR")


def wavelet(raw: Any) -> EEG:
    r"""Take large wavelet coefficients for the artefact, and subtract it.

    Large is above :math:`\hat\sigma_l \sqrt{2 \ln n}` at level l, :math:`\hat\sigma_l` the median absolute coefficient over
    0.6745 (Donoho and Johnstone 1994, doi:10.1093/biomet/81.3.425; for EEG as in HAPPE, Gabard-Durnam et al. 2018,
    doi:10.3389/fnins.2018.00097).
    """
    noisy, name = nothing(raw), "sym8"
    coefficients = pywt.wavedec(noisy, name, level=min(6, pywt.dwt_max_level(noisy.shape[1], name)), axis=1)
    artefact = []
    for one in coefficients:
        spread = np.median(np.abs(one), axis=1, keepdims=True) / 0.6745
        artefact.append(np.where(np.abs(one) > spread * np.sqrt(2 * np.log(one.shape[1])), one, 0))
    return noisy - pywt.waverec(artefact, name, axis=1)[:, : noisy.shape[1]]


def regression(raw: Any, reference: str) -> EEG:
    """Subtract what the reference channels explain, by `mne.preprocessing.EOGRegression` (Gratton et al. 1983).

    Parameters
    ----------
    raw
    reference : {"eog", "ecg"}
        Type of the channels that recorded the artefact.
    """
    mne = import_mne()
    with mne.utils.use_log_level("ERROR"):
        referenced, _ = mne.set_eeg_reference(raw.copy(), [])  # the recording's own reference stays
        model = mne.preprocessing.EOGRegression(picks="eeg", picks_artifact=reference).fit(referenced)
        return nothing(model.apply(referenced, copy=False))


def ica(raw: Any, detector: str, seed: int = 0) -> EEG:
    """Take out the independent components that MNE's own detector marks (FastICA on data above 1 Hz, as MNE advises).

    Parameters
    ----------
    raw
    detector : {"eog", "ecg", "muscle"}
        `find_bads_eog`, `find_bads_ecg` by correlation, or `find_bads_muscle`, with MNE's thresholds.
    seed
        Of FastICA.
    """
    mne = import_mne()
    with warnings.catch_warnings():
        # Sources that are next to Gaussian never settle: the components are used as they are after 200 rounds.
        warnings.filterwarnings("ignore", message=".*did not converge.*")
        warnings.filterwarnings("ignore", message=".*highpass.*")
        slow = raw.copy().filter(1.0, None, picks=["eeg", "eog", "ecg"], verbose="ERROR")
        model = mne.preprocessing.ICA(
            n_components=0.999, method="fastica", random_state=seed, max_iter=200, verbose="ERROR"
        )
        model.fit(slow, picks="eeg", decim=2, verbose="ERROR")
        if detector == "eog":
            bad, _ = model.find_bads_eog(slow, verbose="ERROR")
        elif detector == "ecg":
            bad, _ = model.find_bads_ecg(slow, method="correlation", verbose="ERROR")
        else:
            bad, _ = model.find_bads_muscle(slow, verbose="ERROR")
    return nothing(model.apply(raw.copy(), exclude=bad, verbose="ERROR"))


class LinearModel:
    r"""A linear map of windows, :math:`\hat x = M y`: what an SAE has to beat to be worth its nonlinearity.

    Parameters
    ----------
    matrix : ndarray (d_in, d_in)
    """

    def __init__(self, matrix: EEG) -> None:
        self.matrix = matrix

    @classmethod
    def pca(cls, pairs: Iterable[EEG], n_components: int) -> "LinearModel":
        """Fit a projection onto the leading principal components of clean windows (the linear autoencoder)."""
        total: Any = sum(clean.T @ clean for _, clean in map(_halves, pairs))
        leading = np.linalg.eigh(total)[1][:, -n_components:]
        return cls(leading @ leading.T)

    @classmethod
    def wiener(cls, pairs: Iterable[EEG]) -> "LinearModel":
        """Fit the least-squares map from noisy windows to clean ones: the Wiener filter of a window."""
        across: Any = 0
        within: Any = 0
        for noisy, clean in map(_halves, pairs):
            across, within = across + clean.T @ noisy, within + noisy.T @ noisy
        ridge = 1e-6 * np.trace(within) / len(within) * np.eye(len(within))
        return cls(np.linalg.solve(within + ridge, across.T).T)

    def __call__(self, raw: Any) -> EEG:
        """Denoise a recording by overlapping windows."""
        return overlap_add(nothing(raw), len(self.matrix), lambda windows: windows @ self.matrix.T)


def _halves(pairs: EEG) -> tuple[EEG, EEG]:
    noisy, clean = np.split(np.asarray(pairs, dtype=np.float64), 2, axis=1)
    return noisy, clean


_DETECTORS: Mapping[Kind, str] = {"eye": "eog", "heart": "ecg", "muscle": "muscle"}
_REFERENCES: Mapping[Kind, str] = {"eye": "eog", "heart": "ecg"}


def methods(kind: Kind | None, trained: Mapping[str, LinearModel], seed: int = 0) -> dict[str, Callable[[Any], EEG]]:
    """Return the methods by name that somebody who knows the kind of artefact would try on it.

    ICA needs a detector for it (none for mains, which get a notch filter), regression a channel that recorded it. On a recording without an
    artefact (None) both look for eye movements, as routine pipelines do.
    """
    found: dict[str, Callable[[Any], EEG]] = {
        "nothing": nothing, "band-pass": band_pass, "wavelet": wavelet, **trained
    }  # fmt: skip
    if kind == "line":
        found["notch"] = notch
    known = kind or "eye"
    if known in _REFERENCES:
        found["regression"] = partial(regression, reference=_REFERENCES[known])
    if known in _DETECTORS:
        found["ica"] = partial(ica, detector=_DETECTORS[known], seed=seed)
    return found
