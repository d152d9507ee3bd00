"""Whole clean recordings of held-out subjects, as long as every channel is usable."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from mfrbook.chapters.eeg.recordings.simulation import SECONDS, SEED, simulated_recording, simulated_subjects
from mfrlib.data.eeg.electrodes import TEN_TWENTY
from mfrlib.data.eeg.folder import held_out_subjects, usable_recordings
from mfrlib.data.eeg.header import EEGDataError
from mfrlib.data.eeg.preprocessing import Preprocessing
from mfrlib.data.eeg.recording import Windows, import_mne, windows

SHORTEST = 10.0
"""Seconds of a recording, or more."""


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
        Of EDF files; None: simulated subjects, as `mfrbook.chapters.eeg.recordings.simulation.simulated_eeg` splits them.
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
    for name, electrodes, read in _held_out(folder, preprocessing, n, readable_only):
        blocks = list(read)
        volts = np.concatenate([block.volts for block in blocks])
        first, last = _longest(np.concatenate([block.usable for block in blocks]).all(axis=1))
        last = min(last, first + int(seconds / preprocessing.seconds))
        if (last - first) * preprocessing.seconds < SHORTEST:
            raise EEGDataError({name: f"fewer than {SHORTEST:g} s in which every channel is usable"})
        mne = import_mne()
        info = mne.create_info(electrodes, preprocessing.rate, "eeg", verbose="ERROR")
        info.set_montage(mne.channels.make_standard_montage("colin27_1020"), on_missing="raise", verbose="ERROR")
        signal = volts[first:last].swapaxes(0, 1).reshape(len(electrodes), -1)
        yield mne.io.RawArray(signal, info, verbose="ERROR")


def _held_out(
    folder: str | os.PathLike[str] | None, preprocessing: Preprocessing, n: int, readable_only: bool
) -> Iterator[tuple[str, list[str], Iterator[Windows]]]:
    """Yield name, electrodes and windows of each recording."""
    if folder is None:
        names = simulated_subjects()
        for name in sorted(held_out_subjects(set(names)))[:n]:
            yield name, list(TEN_TWENTY), windows(simulated_recording(SEED, names[name], SECONDS), preprocessing)
        return
    found, _ = usable_recordings(folder, preprocessing, readable_only=readable_only)
    test = sorted(held_out_subjects({one.subject for one in found}))
    for subject in test[:n]:
        first, edf = next((one, edf) for one, edf in found.items() if one.subject == subject)
        yield first.name, list(edf.electrodes.values()), edf.windows()


def _longest(usable: Any) -> tuple[int, int]:
    """Return start and end of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], usable, [False]]).astype(int)))
    runs = edges.reshape(-1, 2)
    best = runs[np.argmax(runs[:, 1] - runs[:, 0])].tolist() if len(runs) else [0, 0]
    return best[0], best[1]
