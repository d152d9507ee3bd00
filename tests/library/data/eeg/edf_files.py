"""Signals and names for tests of EEG."""

import numpy as np

TUH = tuple(
    f"EEG {name}-REF"
    for name in [
        "FP1",
        "FP2",
        "F7",
        "F3",
        "FZ",
        "F4",
        "F8",
        "T3",
        "C3",
        "CZ",
        "C4",
        "T4",
        "T5",
        "P3",
        "PZ",
        "P4",
        "T6",
        "O1",
        "O2",
    ]
)


def pink(n_channels: int, n_samples: int, seed: int = 0) -> np.ndarray:
    """Return noise `(channels, samples)` with a 1/f spectrum and 10 µV standard deviation, in µV."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal((n_channels, n_samples)))
    noise = np.fft.irfft(spectrum / np.sqrt(np.arange(spectrum.shape[1]) + 10.0), n_samples)
    return 10 * noise / noise.std(axis=1, keepdims=True)
