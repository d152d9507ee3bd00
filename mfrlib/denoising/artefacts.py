r"""Artefacts of EEG with a known course, to be mixed into clean recordings at a stated signal-to-noise ratio.

.. math:: y = x + \lambda a, \qquad
    \text{SNR} = 10 \log_{10} \frac{\sum x^2}{\sum (\lambda a)^2} \text{ dB}

with x the clean signal and a the artefact: a ratio of powers, so that 20 dB are a factor of ten in amplitude. At 0 dB signal and
artefact are equally strong. Deviates: EEGdenoiseNet (Zhang et al. 2021, doi:10.1088/1741-2552/ac2bf8), from where the range of −7
to 2 dB is known, takes 10 log10 of a ratio of amplitudes, so the same number means twice as many dB there.
"""

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, get_args
from zipfile import BadZipFile

import numpy as np
import scipy  # its parts, which take long, are imported when they are first used
from numpy.typing import NDArray

from mfrlib.config import ConfigError, require, unknown_name
from mfrlib.data.eeg.preprocessing import MAX_RATE
from mfrlib.data.identity import of_file
from mfrlib.environment import absolute, data_folder

Kind = Literal["eye", "heart", "muscle", "line"]
KINDS: tuple[Kind, ...] = get_args(Kind)
EYES_FILE = "must be an npz file with data (2, n) in µV and sf in Hz"
LOWEST_RATE = 120
"""Sampling rate in Hz under which mains at 50 Hz and muscle activity cannot be held."""

_SLOW = 0.5  # Hz: what an amplifier's high-pass leaves of eye movements
N_MUSCLES = 6
"""Sources of muscle activity, each a muscle near the edge of the cap."""


@dataclass(frozen=True, eq=False)
class EyeMovements:
    """Recorded eye movements: left and right EOG `(2, n)` in µV, the sampling rate in Hz, the file's name without its ending, and its hash."""

    microvolts: NDArray[np.float64]
    rate: float
    name: str
    sha256: str


def default_eye_movements() -> str:
    """Return the file of eye movements below `MFR_DATA`, or "" where there is none."""
    folder = data_folder()
    path = folder / "eeg" / "eog_rem_256Hz.npz" if folder else None
    return str(path) if path is not None and path.is_file() else ""


def load_eye_movements(path: str | os.PathLike[str]) -> EyeMovements:
    """Read eye movements from an npz file with `data` (2, n) in µV and `sf` in Hz, as YASA's `data_EOGs_REM_256Hz` is.

    Raises ConfigError naming the file and what is wrong with it: not there, no npz, other shapes, values that are not
    finite, a sampling rate under 120 Hz, less than a minute.
    """
    require(isinstance(path, str | os.PathLike), "eye_movements", path, EYES_FILE)
    path = Path(absolute(path))
    require(os.path.isfile(path), "eye_movements", str(path), EYES_FILE)
    try:
        with np.load(path, allow_pickle=False) as stored:
            data, rate = np.asarray(stored["data"], float), float(stored["sf"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise ConfigError(f"eye_movements: needs data (2, n) in µV and sf in Hz, given {path} ({error})") from error
    require(data.ndim == 2 and len(data) == 2, "eye_movements", data.shape, "data must be (2, n)")
    require(bool(np.isfinite(data).all()), "eye_movements", str(path), "data must be finite")
    allowed = f"sf must be {LOWEST_RATE} to {MAX_RATE} Hz"
    require(LOWEST_RATE <= rate <= MAX_RATE, "eye_movements", rate, allowed)
    require(data.shape[1] >= 60 * rate, "eye_movements", data.shape[1] / rate, "must last 60 s or more")
    return EyeMovements(data, rate, path.stem, of_file(path))


def courses(
    kind: Kind, n_samples: int, rate: float, draws: np.random.Generator, eye_movements: EyeMovements | None = None,
    part: tuple[float, float] = (0.0, 1.0),
) -> NDArray[np.float64]:  # fmt: skip
    """Draw the courses of an artefact's sources over time, `(n_sources, n_samples)`, of unit variance on the whole.

    `eye`: 2, turned sideways and up or down. `heart`: 2, beats with P, QRS and T in two directions. `muscle`: 6, noise of 20 to
    120 Hz in bursts. `line`: 2, mains of 50 Hz with its first harmonic, in quadrature.

    Of recorded `eye_movements` a stretch is taken at random, from a `part` of them: one for training, another for tests. Without
    any, blinks and saccades are simulated. The sampling `rate` is from 120 to 20,000 Hz; ConfigError otherwise, as for
    another kind.
    """
    if kind not in KINDS:
        raise unknown_name(kind, KINDS, "artefact")
    require(LOWEST_RATE <= rate <= MAX_RATE, "rate", rate, f"must be {LOWEST_RATE} to {MAX_RATE} Hz")
    require(n_samples >= 1, "n_samples", n_samples, "must be 1 or more")
    if kind == "eye":
        found = _eye(n_samples, rate, draws, eye_movements, part)
    else:
        found = {"heart": _heart, "muscle": _muscle, "line": _line}[kind](n_samples, rate, draws)
    return found / max(float(np.sqrt((found**2).mean())), 1e-12)


def _eye(
    n: int, rate: float, draws: np.random.Generator, recorded: EyeMovements | None, part: tuple[float, float]
) -> NDArray[np.float64]:
    """Turned sideways, the eyes move the two electrodes in opposite directions; up or down, in the same."""
    margin = round(4 * rate)  # in which the filter settles
    if recorded is None:
        return _high_passed(_blinks(n + 2 * margin, rate, draws), rate)[:, margin : margin + n]
    ratio = Fraction(rate / recorded.rate).limit_denominator(1000)
    needed = (n + 2 * margin) * ratio.denominator // ratio.numerator + 2
    first, last = (round(share * recorded.microvolts.shape[1]) for share in part)
    allowed = f"at most {(last - first) / recorded.rate:.0f} s are recorded in this part of {recorded.name}"
    require(needed <= last - first, "n_samples", n / rate, allowed)
    start = int(draws.integers(first, last - needed + 1))
    taken = recorded.microvolts[:, start : start + needed]
    centred = taken - taken.mean(1, keepdims=True)
    left, right = scipy.signal.resample_poly(centred, ratio.numerator, ratio.denominator, axis=1)
    moved = np.stack([right - left, right + left]) / 2
    return _high_passed(moved, rate)[:, margin : margin + n]


def _blinks(n: int, rate: float, draws: np.random.Generator) -> NDArray[np.float64]:
    """Saccades as steps between random directions, every second or so; blinks of 0.3 s, in which the eye turns up."""
    moved = np.zeros((2, n))
    for source, size in ((0, 1.0), (1, 0.4)):
        edges = np.cumsum(draws.gamma(2.0, 0.6, size=max(4, round(3 * n / rate))))
        where = np.searchsorted(edges, np.arange(n) / rate)
        moved[source] = size * draws.standard_normal(len(edges) + 1)[where]
    rise = np.hanning(max(3, round(0.04 * rate)))
    moved = np.apply_along_axis(np.convolve, 1, moved, rise / rise.sum(), "same")
    blink = np.hanning(max(3, round(0.3 * rate)))
    for start in draws.integers(0, max(1, n - len(blink)), size=max(1, round(0.3 * n / rate))):
        moved[1, start : start + len(blink)] += draws.uniform(2, 4) * blink[: n - start]
    return moved


_BEAT = {  # seconds after the R wave, width in s, height in the two directions that the heart's vector moves in
    "P": (-0.18, 0.03, 0.12, 0.05), "Q": (-0.03, 0.009, -0.15, 0.3), "R": (0.0, 0.011, 1.0, 0.2),
    "S": (0.03, 0.009, -0.25, -0.5), "T": (0.26, 0.05, 0.3, -0.15),
}  # fmt: skip


def _heart(n: int, rate: float, draws: np.random.Generator) -> NDArray[np.float64]:
    """Beats as sums of Gaussians (McSharry et al. 2003, doi:10.1109/TBME.2003.808805), 55 to 85 a minute, never quite even."""
    period = 60 / draws.uniform(55, 85)
    beats = np.cumsum(period * (1 + 0.04 * draws.standard_normal(round(n / rate / period) + 4))) - period
    time, found = np.arange(n) / rate, np.zeros((2, n))
    for delay, width, *heights in _BEAT.values():
        for beat in beats + delay:
            near = slice(*(max(0, round((beat + side * 6 * width) * rate)) for side in (-1, 1)))
            found[:, near] += np.outer(heights, np.exp(-0.5 * ((time[near] - beat) / width) ** 2))
    return found - found.mean(1, keepdims=True)


def _muscle(n: int, rate: float, draws: np.random.Generator) -> NDArray[np.float64]:
    """Noise of 20 to 120 Hz, or up to where the sampling rate ends, in bursts of half a second to two."""
    band = (20, min(120, 0.45 * rate))
    margin = round(rate)
    noise = draws.standard_normal((N_MUSCLES, n + 2 * margin))
    sections = scipy.signal.butter(2, band, "bandpass", fs=rate, output="sos")
    noise = scipy.signal.sosfiltfilt(sections, noise)[:, margin : margin + n]
    active = np.zeros_like(noise)
    for one in active:
        edges = np.cumsum(draws.gamma(3.0, 0.35, size=max(6, round(3 * n / rate))))
        strength = draws.lognormal(0, 0.5, len(edges) + 1) * (draws.random(len(edges) + 1) < 0.5)
        one[:] = strength[np.searchsorted(edges, np.arange(n) / rate)]
    rise = np.hanning(max(3, round(0.1 * rate)))
    active = np.apply_along_axis(np.convolve, 1, active, rise / rise.sum(), "same")
    return noise * (active + 0.05)


def _line(n: int, rate: float, draws: np.random.Generator) -> NDArray[np.float64]:
    """Mains: 50 Hz that drift by some hundredths, and a tenth of the first harmonic where the sampling rate holds it."""
    knots = np.arange(0, n / rate + 10, 5.0)
    drift = np.interp(np.arange(n) / rate, knots, draws.normal(0, 0.03, len(knots)))
    phase = 2 * np.pi * np.cumsum(50 + drift) / rate + draws.uniform(0, 2 * np.pi)
    harmonic = 0.1 if rate > 220 else 0.0
    shift = draws.uniform(0, 2 * np.pi)
    return np.stack([np.sin(phase + turn) + harmonic * np.sin(2 * (phase + turn) + shift) for turn in (0, np.pi / 2)])


def _high_passed(x: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
    return scipy.signal.sosfiltfilt(scipy.signal.butter(2, _SLOW, "highpass", fs=rate, output="sos"), x, axis=1)
