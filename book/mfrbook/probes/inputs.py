"""What probes read: a short committed text, EDF files and eye movements made from fixed numbers; never a user's data."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TEXT = Path(__file__).with_name("text.jsonl")
ELECTRODES = (
    "Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T3", "C3", "Cz",
    "C4", "T4", "T5", "P3", "Pz", "P4", "T6", "O1", "O2",
)  # fmt: skip
RATE = 500
SECONDS = 24
N_SUBJECTS = 4


def write_recordings(folder: Path) -> Path:
    """Write an EDF file for each subject, as EEGMAT has them: 500 Hz, 19 electrodes and a channel that is no EEG."""
    from edfio import Edf, EdfSignal

    folder.mkdir(parents=True)
    for subject in range(N_SUBJECTS):
        labels = [f"EEG {name}" for name in ELECTRODES] + ["ECG ECG"]
        signals = [
            EdfSignal(x, RATE, label=label, physical_dimension="uV", physical_range=(-400, 400))
            for label, x in zip(labels, _microvolts(len(labels), subject), strict=True)
        ]
        Edf(signals).write(folder / f"Subject{subject:02d}_1.edf")
    return folder


def write_eye_movements(file: Path) -> Path:
    """Write some minutes of eye movements at 256 Hz, as an npz file with `data` (2, n) in µV and `sf`."""
    rate, rng = 256, np.random.default_rng(11)
    steps = np.zeros((2, 400 * rate))
    for at in rng.integers(0, steps.shape[1] - 200, 500):
        steps[:, at : at + 120] += rng.normal(0, 80) * np.hanning(120) * np.array([[1.0], [-0.8]])
    np.savez(file, data=steps + rng.normal(0, 2, steps.shape), sf=rate)
    return file


def _microvolts(n_channels: int, seed: int) -> NDArray[np.float64]:
    """Return noise with a 1/f spectrum and an alpha rhythm, 20 µV strong, `(channel, sample)`."""
    n = RATE * SECONDS
    rng = np.random.default_rng(100 + seed)
    spectrum = np.fft.rfft(rng.standard_normal((n_channels, n)))
    noise = np.fft.irfft(spectrum / np.sqrt(np.arange(spectrum.shape[1]) + 30.0), n)
    time = np.arange(n) / RATE
    rhythm = np.sin(2 * np.pi * (9.5 + 0.3 * seed) * time) * np.linspace(0.2, 1.5, n_channels)[:, None]
    mixed = noise / noise.std(axis=1, keepdims=True) + rhythm
    return np.clip(20 * mixed, -399, 399)
