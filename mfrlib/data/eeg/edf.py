"""An EDF file that can be used, from its header to its windows: the one way that every reader of such files takes."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfrlib.data.eeg.electrodes import require_one_reference
from mfrlib.data.eeg.header import EDFHeader, EEGDataError, NoSignalError, read_header
from mfrlib.data.eeg.preprocessing import Preprocessing, check_signal, pick_eeg
from mfrlib.data.eeg.recording import Windows, import_mne, windows

# The micro sign as files write it: u, Latin-1, Shift-JIS. MNE would silently take any other unit for volts.
_VOLTS = {"uV": 1e-6, "\u00b5V": 1e-6, "\x83\xcaV": 1e-6, "mV": 1e-3, "V": 1.0}


@dataclass(frozen=True)
class EDF:
    """An EDF file whose header was read and fits the settings; its samples are not in memory."""

    path: Path
    preprocessing: Preprocessing
    electrodes: dict[str, str]
    """By label, in the order of the channels of `windows`."""
    limits: dict[str, tuple[float, float]]
    """The smallest and largest value in volts that the file can hold, of each electrode. It clips there."""

    def windows(self) -> Iterator[Windows]:
        """Read, filter, resample and cut the file, see `mfrlib.data.eeg.recording.windows`; what is clipped is not usable.

        Raises EEGDataError in MNE's own words for whatever it finds, or if a sample is not finite.
        """
        return windows(self._raw(), self.preprocessing, self.limits)

    def _raw(self) -> Any:
        mne = import_mne()
        try:
            # Latin-1 decodes every byte: damaged annotations, not used here, shall not cost a sound signal.
            raw = mne.io.read_raw_edf(
                self.path, include=list(self.electrodes), preload=False, encoding="latin1", verbose="ERROR"
            )
            return raw.rename_channels(self.electrodes, verbose="ERROR")
        except Exception as error:
            raise EEGDataError({str(self.path): f"MNE cannot read it ({type(error).__name__}: {error})"}) from error


def open_edf(path: str | os.PathLike[str], preprocessing: Preprocessing) -> EDF:
    """Tell by its header alone whether an EDF file can be used.

    Raises EEGDataError naming the file, the channel and the reason: those of `read_header`, `pick_eeg`, `require_one_reference`
    and `check_signal`; a unit other than µV, mV or V; a range that is empty or reaches beyond 1 V; electrodes at different rates.
    """
    header = read_header(path)
    if header.annotations_only:
        raise NoSignalError({str(path): "holds annotations only, no signal"})
    try:
        electrodes = pick_eeg(header.labels, preprocessing)
        require_one_reference(electrodes)
        limits = {name: _limits(header, label) for label, name in electrodes.items()}
        rates = {label: header.rate(header.labels.index(label)) for label in electrodes}
        if len(set(rates.values())) > 1:
            raise ValueError(f"electrodes at different sampling rates, in Hz: {rates}")
        check_signal(next(iter(rates.values())), header.seconds, preprocessing)
    except ValueError as error:
        raise EEGDataError({str(path): str(error)}) from None
    return EDF(Path(path), preprocessing, electrodes, limits)


def _limits(header: EDFHeader, label: str) -> tuple[float, float]:
    """Return the smallest and largest value of a channel, in volts."""
    i = header.labels.index(label)
    volts, physical, digital = _VOLTS.get(header.units[i]), header.physical[i], header.digital[i]
    if volts is None:
        raise ValueError(f"channel {label!r} has unit {header.units[i]!r}, known are uV, mV and V")
    if physical[0] == physical[1] or digital[0] >= digital[1]:
        raise ValueError(f"channel {label!r} has an empty range: physical {physical}, digital {digital}")
    if volts * max(map(abs, physical)) > 1:
        raise ValueError(f"channel {label!r} has a range beyond 1 V: {physical} {header.units[i]}")
    low, high = sorted(volts * value for value in physical)
    return low, high
