"""The header of an EDF file, checked before anything is allocated on its word.

Layout (EDF: Kemp et al. 1992, doi:10.1016/0013-4694(92)90009-7; EDF+: Kemp and Olivan 2003, doi:10.1016/S1388-2457(03)00123-8):
256 bytes on the file, 256 bytes on each signal, then `n_records` data records of 16-bit integers, each holding `record_seconds`
of every signal. The header is text that anybody may have written, so each number is held against the others and against the size
of the file. Where they disagree the file is refused, since nobody can tell which of them is right. Where the number of records is
unknown (-1, as amplifiers leave it that were switched off), the size of the file alone says it, and nothing disagrees.
"""

import functools
import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mfrlib.data.files import stamp

# A reader holds at least one whole record in memory; EDF recommends 61,440 bytes at most.
_MAX_RECORD_BYTES = 2**26
_LIMITS = "physical minimum", "physical maximum", "digital minimum", "digital maximum"  # as they follow in a header
ANNOTATIONS = "EDF Annotations"
"""Label of a signal that holds text instead of samples (EDF+)."""


class EEGDataError(ValueError):
    """EEG recordings that cannot be used.

    Parameters
    ----------
    problems : dict of str to str
        The reason for every file (or folder) that is refused.
    advice : str
        What to do about them.
    """

    def __init__(self, problems: dict[str, str], advice: str = ""):
        super().__init__(problems, advice)
        self.problems, self.advice = problems, advice

    def __str__(self) -> str:
        """Return one line per file, and the advice."""
        lines = [f"{name}: {reason}" for name, reason in self.problems.items()]
        return "\n".join([*lines, *([self.advice] if self.advice else [])])


class NoSignalError(EEGDataError):
    """A file that holds annotations only: it accompanies recordings, and is none."""


@dataclass(frozen=True)
class EDFHeader:
    """What the header of an EDF file says of its signals; every tuple has one entry per signal."""

    n_bytes: int
    """Length of the header in bytes."""
    n_records: int
    """Number of data records."""
    record_seconds: float
    """Duration of a data record in seconds."""
    labels: tuple[str, ...]
    """Signal names, `EEG Fp1` or `EEG FP1-REF`."""
    units: tuple[str, ...]
    """Physical dimensions, `uV` or `mV`."""
    physical: tuple[tuple[float, float], ...]
    """Physical minimum and maximum, in `units`."""
    digital: tuple[tuple[float, float], ...]
    """The integers that stand for the physical minimum and maximum."""
    n_samples: tuple[int, ...]
    """Samples of the signal in each data record."""

    @property
    def annotations_only(self) -> bool:
        """Whether no signal holds samples: such a file accompanies recordings, and is none."""
        return set(self.labels) == {ANNOTATIONS}

    @property
    def seconds(self) -> float:
        """Duration of the recording in seconds."""
        return self.n_records * self.record_seconds

    def rate(self, signal: int) -> float:
        """Sampling rate of a signal in Hz."""
        return self.n_samples[signal] / self.record_seconds


def read_header(path: str | os.PathLike[str]) -> EDFHeader:
    """Return the header of an EDF or EDF+ file, which agrees with itself and with the size of the file.

    It is parsed once: a file that has not been touched since is not read again.

    Raises EEGDataError naming the file and the reason: not a regular file, unreadable, no EDF, with gaps between its
    records (EDF+D), a field that is no number, a header length other than 256 · (signals + 1), a file shorter or
    longer than header + records · record size.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError("not a regular file")
        return _read(*stamp(Path(path)))
    except OSError as error:
        raise EEGDataError({str(path): f"cannot be read ({error.strerror})"}) from error
    except ValueError as error:
        raise EEGDataError({str(path): str(error)}) from None


@functools.lru_cache(maxsize=4096)
def _read(path: str, *stamp: int) -> EDFHeader:
    with Path(path).open("rb") as file:
        return _parse(file, os.fstat(file.fileno()).st_size)


def _parse(file: IO[bytes], size: int) -> EDFHeader:
    """Parse the fixed part, then the signals' part, which is read only once its length is proven."""
    fixed = file.read(256)
    if len(fixed) < 256:
        raise ValueError(f"truncated: an EDF header has at least 256 bytes, the file has {size}")
    if fixed[:8].strip(b" \0") != b"0":
        raise ValueError(f"not an EDF file: it starts with {fixed[:8]!r}, EDF with b'0       '")
    n_bytes = _integer("header length", fixed[184:192], 512)
    unknown = fixed[236:244].strip(b" \0") == b"-1"
    n_records = 0 if unknown else _integer("number of data records", fixed[236:244], 1)
    record_seconds = _number("duration of a data record", fixed[244:252])
    n_signals = _integer("number of signals", fixed[252:256], 1)
    if n_bytes != 256 * (n_signals + 1):
        raise ValueError(
            f"header length is {n_bytes} bytes, but {n_signals} signals need "
            f"256 · (signals + 1) = {256 * (n_signals + 1)}"
        )
    if size < n_bytes:
        raise ValueError(f"truncated: the header should have {n_bytes} bytes, the file has {size}")

    table = file.read(256 * n_signals)
    if len(table) < 256 * n_signals:
        raise ValueError("truncated while it was read")
    columns = _column(table, n_signals, 0, 16), _column(table, n_signals, 96, 8)
    names, units = (tuple(one.strip(b" \0").decode("latin-1") for one in column) for column in columns)
    if record_seconds < 0 or (record_seconds == 0 and set(names) != {ANNOTATIONS}):
        raise ValueError(f"duration of a data record is {record_seconds:g} s, it must be positive")
    low, high, digital_low, digital_high = (
        [_number(f"{what} of signal {i}", field) for i, field in enumerate(_column(table, n_signals, offset, 8))]
        for what, offset in zip(_LIMITS, range(104, 136, 8), strict=True)
    )
    per_record = enumerate(_column(table, n_signals, 216, 8))
    n_samples = tuple(_integer(f"samples per record of signal {i}", field, 0) for i, field in per_record)
    record_bytes = 2 * sum(n_samples)
    if not 0 < record_bytes <= _MAX_RECORD_BYTES:
        raise ValueError(f"a data record has {record_bytes} bytes, allowed are 1 to {_MAX_RECORD_BYTES}")
    if unknown:  # a record that was being written is no record
        n_records = (size - n_bytes) // record_bytes
    promised = n_bytes + n_records * record_bytes
    if n_records == 0:
        raise ValueError("truncated: not one whole data record is in the file")
    if promised != size and not unknown:
        what = "truncated" if size < promised else "longer than its header says"
        raise ValueError(
            f"{what}: {n_records} records of {record_bytes} bytes and the header make {promised} bytes, "
            f"the file has {size}"
        )
    if fixed[192:197] == b"EDF+D" and set(names) != {ANNOTATIONS}:
        _require_no_gap(file, n_bytes, n_records, record_seconds, names, n_samples)
    ranges = tuple(zip(low, high, strict=True)), tuple(zip(digital_low, digital_high, strict=True))
    return EDFHeader(n_bytes, n_records, record_seconds, names, units, *ranges, n_samples)


def _require_no_gap(
    file: IO[bytes], n_bytes: int, n_records: int, seconds: float, names: tuple[str, ...], n_samples: tuple[int, ...]
) -> None:
    """Refuse a discontinuous recording (EDF+D) unless its records, each of which says when it begins, follow each other."""
    if ANNOTATIONS not in names:
        raise ValueError("discontinuous recording (EDF+D) whose records do not say when they begin")
    place = names.index(ANNOTATIONS)
    before, own, whole = 2 * sum(n_samples[:place]), 2 * n_samples[place], 2 * sum(n_samples)
    if not (most := max(n for name, n in zip(names, n_samples, strict=True) if name != ANNOTATIONS)):
        raise ValueError("no signal has a sample in a data record, so nothing was recorded")
    first = 0.0
    for record in range(n_records):
        file.seek(n_bytes + record * whole + before)
        onset = file.read(own).partition(b"\x14")[0].partition(b"\x15")[0]
        begins = _number(f"beginning of data record {record}", onset)
        first = begins if record == 0 else first
        expected = first + record * seconds
        if abs(begins - expected) >= 0.5 * seconds / most:
            raise ValueError(
                f"discontinuous recording (EDF+D): data record {record} begins at {begins:g} s instead of {expected:g} s, "
                "and windows would run across the gap"
            )


def _column(table: bytes, n_signals: int, offset: int, width: int) -> list[bytes]:
    """One field of every signal: EDF writes a field for all signals before the next field."""
    start = offset * n_signals
    return [table[start + i * width : start + (i + 1) * width] for i in range(n_signals)]


def _integer(what: str, field: bytes, minimum: int) -> int:
    """Parse a whole number of plain ASCII digits (`int` alone would take `1_0` and other alphabets)."""
    text = field.strip(b" \0")
    if not text.isdigit() or int(text) < minimum:
        raise ValueError(f"{what} is {field!r}, it must be a whole number of at least {minimum}")
    return int(text)


def _number(what: str, field: bytes) -> float:
    """Parse a finite decimal number; a comma as the decimal mark is found in the wild, and MNE takes it."""
    try:
        value = float(field.strip(b" \0").replace(b",", b".").replace(b"_", b"?"))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{what} is {field!r}, it must be a finite number")
    return value
