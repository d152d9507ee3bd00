"""Whole recordings of held-out subjects, clean and with a known artefact, as a practitioner has them: with EOG and ECG."""

import os
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfrlib.config import require
from mfrlib.data.eeg.folder import held_out_subjects, usable_recordings
from mfrlib.data.eeg.header import EEGDataError
from mfrlib.data.eeg.preprocessing import Preprocessing
from mfrlib.data.eeg.recording import import_mne, read_edf, windows
from mfrlib.data.eeg.simulation import simulate
from mfrlib.denoising.artefacts import EOG_PLACES, EyeMovements, Kind, at_snr, courses, patterns
from mfrlib.denoising.noisy_windows import TRAINING_PART

TEST_PART = (TRAINING_PART[1], 1.0)
SHORTEST = 10.0
_REFERENCE_NOISE = 2e-6  # V, of EOG and ECG amplifiers


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


def clean_recordings(
    folder: str | os.PathLike[str] | None,
    preprocessing: Preprocessing,
    n: int,
    seconds: float,
    readable_only: bool = False,
) -> Iterator[Any]:
    """Yield a recording of each of the first n held-out subjects: filtered, resampled, in volts, with a montage.

    Subjects are split as by `mfrlib.data.eeg.folder.open_eeg`. Of each recording comes the longest stretch without an unusable
    window, cut to `seconds`.

    Parameters
    ----------
    folder
        Of EDF files; None: simulated subjects, as `mfrlib.data.eeg.simulation.simulated_eeg` splits them.
    preprocessing
        Its band and rate.
    n, seconds
        How many, and how long at most.
    readable_only
        Leave out recordings that cannot be used.

    Raises
    ------
    EEGDataError
        Naming a recording without ten usable seconds, or one that cannot be used.
    """
    for name, raw in _held_out(folder, preprocessing, n, readable_only):
        blocks = list(windows(raw, preprocessing))
        volts = np.concatenate([block.volts for block in blocks])
        first, last = _longest(np.concatenate([block.usable for block in blocks]).all(axis=1))
        last = min(last, first + int(seconds / preprocessing.seconds))
        if (last - first) * preprocessing.seconds < SHORTEST:
            raise EEGDataError({name: f"fewer than {SHORTEST:g} s in which every channel is usable"})
        mne = import_mne()
        info = mne.create_info(list(raw.ch_names), preprocessing.rate, "eeg", verbose="ERROR")
        info.set_montage(mne.channels.make_standard_montage("colin27_1020"), on_missing="raise", verbose="ERROR")
        signal = volts[first:last].swapaxes(0, 1).reshape(len(raw.ch_names), -1)
        yield mne.io.RawArray(signal, info, verbose="ERROR")


def _held_out(
    folder: str | os.PathLike[str] | None, preprocessing: Preprocessing, n: int, readable_only: bool
) -> Iterator[tuple[str, Any]]:
    if folder is None:
        names = {f"simulated{subject:03d}": subject for subject in range(12)}
        for name in sorted(held_out_subjects(set(names), 0.25, 0))[:n]:
            yield name, _simulated(names[name])
        return
    found, _ = usable_recordings(folder, preprocessing, readable_only=readable_only)
    test = sorted(held_out_subjects({one.subject for one in found}, 0.25, 0))
    for subject in test[:n]:
        first = next(one for one in found if one.subject == subject)
        yield first.name, read_edf(first.path, preprocessing)


@lru_cache(maxsize=12)
def _simulated(subject: int) -> Any:
    return simulate(0, subject)


def _longest(usable: Any) -> tuple[int, int]:
    """Return start and end of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], usable, [False]]).astype(int)))
    runs = edges.reshape(-1, 2)
    best = runs[np.argmax(runs[:, 1] - runs[:, 0])].tolist() if len(runs) else [0, 0]
    return best[0], best[1]


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
        dB, over all channels together (`mfrlib.denoising.artefacts.at_snr`).
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
    nearest = np.argsort(np.linalg.norm(places[:, None] - EOG_PLACES, axis=2), axis=0)[0]
    eyes = 0.2 * clean[nearest] + _REFERENCE_NOISE * draws.standard_normal((3, n))
    ecg = _REFERENCE_NOISE * draws.standard_normal((1, n))
    noisy = clean
    if kind is not None:
        require(snr is not None, "snr", snr, "must be a finite number of dB where an artefact is added")
        sources = courses(kind, n, rate, draws, eye_movements, TEST_PART)
        weights = patterns(kind, np.concatenate([places, EOG_PLACES]), draws)
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
