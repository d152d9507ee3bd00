"""Simulated EEG for when no recordings are at hand: dipoles in a spherical head, by MNE, without a download.

A subject has rhythms (occipital alpha, frontal theta, central beta) that come in bursts, a background of many
dipoles with a 1/f spectrum, and sensor noise. Frequencies, places and strengths differ between subjects. It
is a stand-in that lets every step run; no result on it says anything about brains.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfrlib.config import checked, require
from mfrlib.data.eeg.electrodes import TEN_TWENTY
from mfrlib.data.eeg.folder import HELD_OUT, SPLIT_SEED, Split, held_out_subjects, identity_of_windows
from mfrlib.data.eeg.preprocessing import Preprocessing
from mfrlib.data.eeg.recording import Windows, import_mne, vectors, windows
from mfrlib.data.eeg.shards import MemoryShard
from mfrlib.data.eeg.windows import EEGWindows

RATE = 250.0
"""Sampling rate of the simulation in Hz."""
N_SUBJECTS, SECONDS, SEED = 12, 60.0, 0
"""What stands for recordings where nothing else is said: subjects, seconds of each, seed."""

# Rhythm: electrodes above its sources, range of its frequency (Hz), typical peak at the scalp (µV).
_RHYTHMS = (
    (("O1", "O2", "Pz"), (8.5, 11.5), 25.0),
    (("Fz", "Cz"), (4.5, 7.0), 15.0),
    (("C3", "C4"), (15.0, 25.0), 7.0),
)
_N_BACKGROUND = 60
_BACKGROUND_MICROVOLTS = 9.0
_SENSOR_NOISE_MICROVOLTS = 0.7


def simulate(seed: int, subject: int, seconds: float = SECONDS) -> Any:
    """Simulate the recording of one subject.

    Parameters
    ----------
    seed, subject : int
        They decide everything.
    seconds : float
        Duration.

    Returns
    -------
    mne.io.RawArray
        19 channels of the 10–20 system at 250 Hz, in volts, tens of µV; `info["description"]` says that it is
        simulated.
    """
    require(seed >= 0, "seed", seed, "must be 0 or more")
    require(4 <= seconds <= 3600, "seconds", seconds, "must be 4 to 3600")
    mne = import_mne()
    draws = np.random.default_rng([seed, subject])
    info = mne.create_info(list(TEN_TWENTY), RATE, "eeg", verbose="ERROR")
    info.set_montage(mne.channels.make_standard_montage("colin27_1020"), verbose="ERROR")
    head = mne.make_sphere_model("auto", "auto", info, verbose="ERROR")
    electrodes = np.array([channel["loc"][:3] for channel in info["chs"]]) - head["r0"]
    outward = electrodes / np.linalg.norm(electrodes, axis=1, keepdims=True)

    n_samples = round(seconds * RATE)
    directions, orientations, courses, microvolts = [], [], [], []
    for names, (slowest, fastest), peak in _RHYTHMS:
        frequency, strength = draws.uniform(slowest, fastest), peak * draws.lognormal(0, 0.3)
        for name in names:
            direction = _near(outward[TEN_TWENTY.index(name)], 0.12, draws)
            directions.append(direction)
            orientations.append(_near(direction, 0.3, draws))
            courses.append(_bursts(frequency, n_samples, draws))
            microvolts.append(strength * draws.uniform(0.6, 1.0))
    for _ in range(_N_BACKGROUND):
        directions.append(_near(outward[draws.integers(len(outward))], 0.3, draws))
        orientations.append(_near(np.zeros(3), 1.0, draws))
        courses.append(_noise(n_samples, 1.0, 0.5, draws))
        microvolts.append(_BACKGROUND_MICROVOLTS * np.sqrt(12 / _N_BACKGROUND) * draws.uniform(0.5, 1.0))

    # At 70 % of the head's radius, where the cortex is.
    places = head["r0"] + 0.7 * head["layers"][-1]["rad"] * np.array(directions)
    n = len(places)
    dipoles = mne.Dipole(np.arange(n) / RATE, places, np.ones(n), np.array(orientations), np.ones(n), verbose="ERROR")
    forward, _ = mne.make_forward_dipole(dipoles, head, info, verbose="ERROR")
    lead_field = forward["sol"]["data"]
    # Strengths are those at the electrode that sees the source best, so a deep or tilted source is no weaker.
    scale = 1e-6 * np.array(microvolts) / np.abs(lead_field).max(axis=0)
    sensor_noise = 1e-6 * _SENSOR_NOISE_MICROVOLTS * draws.standard_normal((len(TEN_TWENTY), n_samples))
    info["description"] = f"simulated by mfrlib, seed {seed}, subject {subject}"
    return mne.io.RawArray((lead_field * scale) @ np.array(courses) + sensor_noise, info, verbose="ERROR")


def _near(direction: NDArray[np.float64], spread: float, draws: np.random.Generator) -> NDArray[np.float64]:
    """Draw a unit vector about `spread` radians from a direction."""
    moved = direction + spread * draws.standard_normal(3)
    return moved / np.linalg.norm(moved)


def _noise(n: int, exponent: float, flat_below: float, draws: np.random.Generator) -> NDArray[np.float64]:
    """Draw Gaussian noise of unit variance, its power 1 / f^exponent, constant under `flat_below` Hz."""
    frequency = np.fft.rfftfreq(n, 1 / RATE)
    spectrum = np.fft.rfft(draws.standard_normal(n)) * np.maximum(frequency, flat_below) ** (-exponent / 2)
    noise = np.fft.irfft(spectrum, n)
    return noise / noise.std()


def _bursts(frequency: float, n: int, draws: np.random.Generator) -> NDArray[np.float64]:
    """Draw a rhythm that comes and goes within seconds, peak about 1, its frequency wandering by 0.3 Hz."""
    envelope = np.maximum(_noise(n, 4.0, 0.3, draws), 0) / 2
    phase = 2 * np.pi * np.cumsum(frequency + 0.3 * _noise(n, 4.0, 0.3, draws)) / RATE
    return envelope * np.cos(phase + draws.uniform(0, 2 * np.pi))


def simulated_name(n_subjects: int = N_SUBJECTS, seconds: float = SECONDS, simulation_seed: int = SEED) -> str:
    """Return the name of a simulation in its identity, without simulating anything."""
    return f"simulated-{n_subjects}x{seconds:g}s-seed{simulation_seed}"


def simulated_subjects(n_subjects: int = N_SUBJECTS) -> dict[str, int]:
    """Return the names of simulated subjects, and the number of each."""
    return {f"simulated{subject:03d}": subject for subject in range(n_subjects)}


@functools.lru_cache(maxsize=16)
def simulated_recording(seed: int, subject: int, seconds: float) -> Any:
    """Simulate one recording, once a process."""
    return simulate(seed, subject, seconds)


@dataclass(frozen=True, eq=False)
class SimulatedShard(MemoryShard):
    """The vectors of one simulated recording, in memory."""

    windows: Callable[[], Iterator[Windows]]
    """Simulates the recording again."""


@functools.lru_cache(maxsize=64)
def _shard(name: str, seed: int, subject: int, seconds: float, preprocessing: Preprocessing) -> SimulatedShard:
    """Simulate the vectors of one subject, once a process: runs of many seeds and conditions share them."""

    def again() -> Iterator[Windows]:
        return windows(simulated_recording(seed, subject, seconds), preprocessing)

    values = np.concatenate([vectors(block, preprocessing) for block in again()])
    values.flags.writeable = False
    return SimulatedShard(name, name, values, again)


def simulated_eeg(
    preprocessing: Preprocessing | None = None,
    *,
    n_subjects: int = N_SUBJECTS,
    seconds: float = SECONDS,
    simulation_seed: int = SEED,
    split: Split = "train",
    held_out: float = HELD_OUT,
    split_seed: int = SPLIT_SEED,
    batch_size: int = 1024,
    seed: int = 0,
) -> EEGWindows:
    """Simulate subjects, and give their windows as `mfrlib.data.eeg.folder.open_eeg` gives those of a folder.

    Parameters
    ----------
    preprocessing : Preprocessing, optional
        Default: single channels at 250 Hz.
    n_subjects : int
        Number of subjects, on both sides of the split together.
    seconds : float
        Duration of each recording.
    simulation_seed : int
        Seed of the simulation.
    split, held_out, split_seed, batch_size, seed
        As for `open_eeg`.

    Returns
    -------
    EEGWindows
        The source; its id starts with `eeg:simulated`.
    """
    preprocessing = preprocessing or Preprocessing()
    require(1 <= n_subjects <= 1000, "n_subjects", n_subjects, "must be 1 to 1000")
    checked({"split": split}, {"split": Split})
    names = simulated_subjects(n_subjects)
    test = held_out_subjects(set(names), held_out, split_seed)
    shards = [
        _shard(name, simulation_seed, subject, seconds, preprocessing)
        for name, subject in names.items()
        if (name in test) == (split == "test")
    ]
    name = simulated_name(n_subjects, seconds, simulation_seed)
    identity = identity_of_windows(name, preprocessing, split, held_out, split_seed)
    return EEGWindows(tuple(shards), identity, preprocessing.d_in, batch_size, seed)
