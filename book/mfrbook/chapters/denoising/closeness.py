"""How close a denoised recording is to the clean one that nobody has outside a test."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy  # its parts, which take long, are imported when they are first used
from numpy.typing import NDArray

from mfrlib.config import require

BANDS: Mapping[str, tuple[float, float]] = {
    "delta": (0.5, 4.0), "theta": (4.0, 8.0), "alpha": (8.0, 13.0), "beta": (13.0, 30.0), "gamma": (30.0, 45.0),
}  # fmt: skip
"""Bands of EEG in Hz; gamma ends where the clean recordings do. `mfrbook.chapters.eeg.kinds` has a narrower beta."""

Signals = NDArray[Any]


def measure(clean: Signals, noisy: Signals, estimate: Signals, rate: float) -> dict[str, float]:
    r"""Return the measures of the field for one recording, its channels weighing alike.

    Parameters
    ----------
    clean, noisy, estimate : ndarray (n_channels, n_times)
        x, y and x̂, in one unit.
    rate : float
        Sampling rate in Hz.

    Returns
    -------
    dict
        `rrmse_t`
            :math:`\text{RMS}(\hat x - x) / \text{RMS}(x)`; 1 is what a silent channel would give.
        `rrmse_s`
            The same of power spectral densities, by Welch's method on windows of 2 s.
        `correlation`
            Pearson's r of x̂ and x; 0 for a silent channel.
        `snr_gain`
            :math:`10 \log_{10} \sum (y - x)^2 / \sum (\hat x - x)^2` in dB, sums over channels and time; negative where
            the estimate is worse than doing nothing, NaN where there is no noise.
        `delta`, `theta`, `alpha`, `beta`, `gamma`
            :math:`|10 \log_{10} P(\hat x) / P(x)|` in dB, P the power in the band. Power 60 dB below and less counts as 60 dB.

    Raises
    ------
    ConfigError
        If shapes differ, a value is not finite, or a clean channel is silent.
    """
    for name, one in (("noisy", noisy), ("estimate", estimate)):
        require(one.shape == clean.shape, name, one.shape, f"must be of the shape {clean.shape}")
    for name, one in (("clean", clean), ("noisy", noisy), ("estimate", estimate)):
        require(bool(np.isfinite(one).all()), name, "NaN or Inf", "must be finite")
    silent = np.flatnonzero(_rms(clean) == 0)
    require(len(silent) == 0, "clean", f"channel {silent[:1].tolist()}", "no channel may be silent")

    frequency, power = _spectrum(clean, rate)
    _, found = _spectrum(estimate, rate)
    noise = np.square(noisy - clean).sum()
    error = max(float(np.square(estimate - clean).sum()), 1e-12 * float(np.square(clean).sum()))
    measures = {
        "rrmse_t": float((_rms(estimate - clean) / _rms(clean)).mean()),
        "rrmse_s": float((_rms(found - power) / _rms(power)).mean()),
        "correlation": float(_correlation(clean, estimate).mean()),
        "snr_gain": float(10 * np.log10(noise / error)) if noise > 0 else float("nan"),
    }
    for name, (low, high) in BANDS.items():
        inside = (frequency >= low) & (frequency < high)
        true, got = power[:, inside].sum(1), found[:, inside].sum(1)
        measures[name] = float(np.abs(10 * np.log10(np.maximum(got / true, 1e-6))).mean())
    return measures


def _rms(x: Signals) -> Signals:
    return np.sqrt(np.square(x).mean(-1))


def _spectrum(x: Signals, rate: float) -> tuple[Signals, Signals]:
    return scipy.signal.welch(x, rate, nperseg=min(x.shape[-1], round(2 * rate)), axis=-1)


def _correlation(a: Signals, b: Signals) -> Signals:
    a, b = a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True)
    size = np.sqrt(np.square(a).sum(-1) * np.square(b).sum(-1))
    return np.where(size > 0, (a * b).sum(-1) / np.where(size > 0, size, 1), 0.0)
