"""Held-out recordings whose vectors know the electrode and the second they come from: for maps, spectra, conditions."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfrbook.chapters.eeg.recordings.simulation import SimulatedShard
from mfrlib.data.eeg.electrodes import TEN_TWENTY
from mfrlib.data.eeg.preprocessing import Preprocessing, pick_eeg
from mfrlib.data.eeg.recording import Windows, vectors
from mfrlib.data.eeg.shards import FileShard
from mfrlib.data.eeg.windows import EEGWindows

# EEGMAT Subject00_1, Subject00_2 · EEGBCI S001R01, S001R02
_CONDITIONS = {
    r"Subject\d+_1": "rest",
    r"Subject\d+_2": "arithmetic",
    r"S\d{3}R01": "eyes open",
    r"S\d{3}R02": "eyes closed",
}


class LabelledBlock(NamedTuple):
    """Consecutive windows of a recording, and the vectors that were made of the usable ones.

    Attributes
    ----------
    volts : ndarray (window, channel, sample)
    usable : ndarray (window, channel)
    vectors : ndarray (vector, d_in)
    window, channel : ndarray (vector,)
        Where each vector comes from; with `joint` the channel is 0 throughout.
    """

    volts: NDArray[np.float64]
    usable: NDArray[np.bool_]
    vectors: NDArray[np.float32]
    window: NDArray[np.int64]
    channel: NDArray[np.int64]


@dataclass(frozen=True)
class LabelledRecording:
    """A recording with its names, not yet in memory."""

    name: str
    subject: str
    electrodes: tuple[str, ...]
    """Names of the channels, in the order of the blocks."""
    windows: Callable[[], Iterator[Windows]]
    """Reads the recording again."""
    preprocessing: Preprocessing

    def blocks(self) -> Iterator[LabelledBlock]:
        """Yield the recording some minutes at a time."""
        for block in self.windows():
            usable = block.usable & (block.volts.std(axis=-1) > 0)
            if self.preprocessing.channels == "joint":
                window = np.flatnonzero(usable.all(axis=1))
                channel = np.zeros_like(window)
            else:
                window, channel = np.nonzero(usable)
            yield LabelledBlock(block.volts, usable, vectors(block, self.preprocessing), window, channel)


def labelled(source: EEGWindows, preprocessing: Preprocessing, at_most: int = 64) -> Iterator[LabelledRecording]:
    """Go to the recordings of a source again, one after the other, for what a batch does not tell.

    Parameters
    ----------
    source : EEGWindows
        The recordings, such as those of the held-out subjects: of `open_eeg` or `simulated_eeg`.
    preprocessing : Preprocessing
        The settings of the source.
    at_most : int
        Recordings opened: the first by name.
    """
    for shard in source.shards[:at_most]:
        if isinstance(shard, FileShard):
            electrodes, read = tuple(shard.edf.electrodes.values()), shard.edf.windows
        else:
            assert isinstance(shard, SimulatedShard)
            electrodes, read = tuple(pick_eeg(TEN_TWENTY, preprocessing).values()), shard.windows
        yield LabelledRecording(shard.recording, shard.subject, electrodes, read, preprocessing)


def condition(recording: str) -> str:
    """Return the condition that a recording's file name tells by the rules of its data set, or nothing.

    Examples
    --------
    >>> condition("Subject07_2.edf"), condition("S001/S001R02.edf"), condition("aaaaaaaa_s001_t000.edf")
    ('arithmetic', 'eyes closed', '')
    """
    stem = Path(recording).stem
    return next((name for pattern, name in _CONDITIONS.items() if re.fullmatch(pattern, stem)), "")
