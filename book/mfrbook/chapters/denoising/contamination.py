"""Recordings with a known artefact, as a practitioner has them: with EOG and ECG channels.

A recording is reached by an artefact through a *pattern*, one weight per electrode and source: two dipoles in the eyes,
the far field of the heart, muscles near the edge of the cap, mains by the contact of each electrode.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfrlib.config import require, unknown_name
from mfrlib.data.eeg.recording import import_mne
from mfrlib.denoising.artefacts import KINDS, N_MUSCLES, EyeMovements, Kind, courses
from mfrlib.denoising.noisy_windows import TRAINING_PART

TEST_PART = (TRAINING_PART[1], 1.0)
_REFERENCE_NOISE = 2e-6  # V, of EOG and ECG amplifiers
# Metres in head coordinates: x to the right ear, y to the nose, z up.
_EYES = np.array([[-0.032, 0.085, -0.005], [0.032, 0.085, -0.005]])
_EARS = np.array([[-0.085, 0.0, -0.01], [0.085, 0.0, -0.01]])
_MUSCLES = np.array(
    [[-0.082, 0.035, 0.0], [0.082, 0.035, 0.0], [-0.03, 0.12, 0.05], [0.03, 0.12, 0.05], [-0.045, -0.085, -0.01],
     [0.045, -0.085, -0.01]]
)  # fmt: skip
_EOG = np.array([[-0.055, 0.08, -0.005], [0.055, 0.08, -0.005], [0.032, 0.095, -0.04]])
"""Where the EOG electrodes sit, at the outer corner of the left and of the right eye, and below the right one."""


class NoisyRecording(NamedTuple):
    """A recording with a known artefact."""

    raw: Any
    """EEG with the artefact, in volts, two EOG channels and an ECG channel."""
    clean: NDArray[np.float64]
    """Its EEG without the artefact, `(n_channels, n_times)`, in volts."""
    kind: Kind | None
    """None where nothing was added."""
    snr: float | None
    """dB, over all channels together."""


def contaminate(
    raw: Any,
    kind: Kind | None,
    snr: float | None,
    seed: tuple[int, ...],
    eye_movements: EyeMovements | None = None,
) -> NoisyRecording:
    """Add an artefact to a clean recording through a plausible pattern, and the reference channels of a laboratory.

    The horizontal EOG channel is the difference of two electrodes beside the eyes, the vertical one an electrode below the
    right eye. They record artefacts as their place has it, a fifth of the nearest frontal electrodes, and noise; the ECG
    channel the heart and noise. The same seed gives the same course and pattern at every ratio.

    Parameters
    ----------
    raw : mne.io.Raw
        Clean EEG with a montage, in volts.
    kind
        None: nothing is added; only the reference channels are.
    snr
        dB, over all channels together (`at_snr`).
    seed
        Decides course and pattern.
    eye_movements
        Recorded ones; without them they are simulated.

    Raises
    ------
    ConfigError
        If `snr` is not finite, or a channel has no place.
    """
    mne = import_mne()
    clean, rate = raw.get_data(picks="eeg", verbose="ERROR"), float(raw.info["sfreq"])
    places = np.array([raw.info["chs"][i]["loc"][:3] for i in mne.pick_types(raw.info, eeg=True)])
    draws, n = np.random.default_rng(list(seed)), clean.shape[1]
    nearest = np.argsort(np.linalg.norm(places[:, None] - _EOG, axis=2), axis=0)[0]
    eyes = 0.2 * clean[nearest] + _REFERENCE_NOISE * draws.standard_normal((3, n))
    ecg = _REFERENCE_NOISE * draws.standard_normal((1, n))
    noisy = clean
    if kind is not None:
        require(snr is not None, "snr", snr, "must be a finite number of dB where an artefact is added")
        sources = courses(kind, n, rate, draws, eye_movements, TEST_PART)
        weights = patterns(kind, np.concatenate([places, _EOG]), draws)
        artefact = weights @ sources
        added = at_snr(clean, artefact[:-3], float(snr if snr is not None else 0.0))
        noisy = clean + added
        scale = float(np.sqrt(np.square(added).sum() / np.square(artefact[:-3]).sum()))
        eyes = eyes + scale * artefact[-3:]
        if kind == "heart":
            ecg = ecg + 1e-3 * (sources[:1] + 0.3 * sources[1:])  # one lead sees one direction
    info = mne.create_info(["EOG horizontal", "EOG vertical", "ECG"], rate, ["eog", "eog", "ecg"], verbose="ERROR")
    mixed = mne.io.RawArray(noisy, mne.pick_info(raw.info, mne.pick_types(raw.info, eeg=True)), verbose="ERROR")
    mixed.add_channels(
        [mne.io.RawArray(np.stack([eyes[0] - eyes[1], eyes[2], *ecg]), info, verbose="ERROR")], force_update_info=True
    )
    return NoisyRecording(mixed, clean, kind, snr)


def patterns(kind: Kind, positions: NDArray[np.float64], draws: np.random.Generator) -> NDArray[np.float64]:
    r"""Return how strongly each source of an artefact reaches each electrode, against the mean of the two ears.

    .. math:: V(r) = \sum_\text{eyes} d \cdot (r - r_e) / |r - r_e|^3

    for the eyes, each a dipole d along the direction of the glance (left to right, down to up) in a uniform medium; a
    uniform gradient for each direction of the heart's vector, which is far; :math:`1 / (1 + (|r - r_m| / 3\,\text{cm})^2)` for a
    muscle; for mains, a log-normal weight and a small shift of phase per electrode.

    Parameters
    ----------
    kind
    positions : ndarray (n_electrodes, 3)
        Metres, in head coordinates.
    draws
        Subjects differ: directions are tilted by some degrees, muscles and contacts drawn.

    Returns
    -------
    ndarray (n_electrodes, n_sources)
    """
    if kind not in KINDS:
        raise unknown_name(kind, KINDS, "artefact")
    n = len(positions)
    where = np.concatenate([np.asarray(positions, float), _EARS])
    require(bool(np.isfinite(where).all()), "positions", "not finite", "every electrode needs a place: set a montage")
    if kind == "line":
        size, turn = draws.lognormal(0, 0.5, n), draws.normal(0, 0.3, n)
        return np.stack([size * np.cos(turn), size * np.sin(turn)], axis=1)
    if kind == "eye":
        columns = []
        for glance in ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0)):
            dipole = np.array(glance) + draws.normal(0, 0.1, 3)
            away = where[:, None] - _EYES
            columns.append(((away @ dipole) / np.linalg.norm(away, axis=2) ** 3).sum(1))
        found = np.stack(columns, axis=1)
    elif kind == "heart":
        found = where @ (np.array([[-0.6, 0.1, -0.8], [0.6, 0.6, -0.3]]) + draws.normal(0, 0.1, (2, 3))).T
    else:
        distance = np.linalg.norm(where[:, None] - _MUSCLES, axis=2)
        found = draws.lognormal(0, 0.5, N_MUSCLES) / (1 + (distance / 0.03) ** 2)
    return found[:n] - found[n:].mean(0)


def at_snr(clean: NDArray[Any], artefact: NDArray[Any], snr: float) -> NDArray[Any]:
    """Return the artefact, scaled so that clean signal and artefact have a ratio of powers of `snr` dB over all samples.

    Raises
    ------
    ConfigError
        If `snr` is not finite, shapes differ, or one of the two is zero throughout or not finite.
    """
    require(isinstance(snr, int | float) and bool(np.isfinite(snr)), "snr", snr, "must be a finite number of dB")
    require(clean.shape == artefact.shape, "artefact", artefact.shape, f"must be of the shape {clean.shape}")
    powers = float(np.square(clean, dtype=float).mean()), float(np.square(artefact, dtype=float).mean())
    for name, power in zip(("clean", "artefact"), powers, strict=True):
        require(np.isfinite(power) and power > 0, name, f"power {power}", "must be finite, and not zero throughout")
    return artefact * float(np.sqrt(powers[0] / powers[1] / 10 ** (snr / 10)))
