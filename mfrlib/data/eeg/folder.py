"""A folder of EEG recordings as a source of batches, larger than memory if need be (reading R17)."""

import hashlib
import os
import re
import warnings
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from mfrlib.config import require
from mfrlib.data.eeg.header import EEGDataError
from mfrlib.data.eeg.preprocessing import Preprocessing, electrode, pick_eeg
from mfrlib.data.eeg.recording import check_edf
from mfrlib.data.eeg.shards import FileShard, shard_of
from mfrlib.data.eeg.windows import EEGWindows
from mfrlib.places import cache_folder

__all__ = [
    "EEGDataError",
    "EEGWindows",
    "Preprocessing",
    "Recording",
    "Split",
    "declared_id",
    "electrode",
    "held_out_subjects",
    "open_eeg",
    "pick_eeg",
    "scan",
]

Split = Literal["train", "test"]
N_THREADS = 8
"""Headers read at a time."""

# TUH aaaaaaaa_s001_t000 · EEGMAT Subject00_1 · EEGBCI S001R01 · BIDS sub-01_task-rest_eeg
_SUBJECT = re.compile(r"([a-z0-9]{8})_s\d{3}_.+|(Subject\d+)_\d+|(S\d{3})R\d{2}|(sub-[A-Za-z0-9]+)_.+")


@dataclass(frozen=True)
class Recording:
    """An EDF file of a folder, not yet opened."""

    path: Path
    name: str
    """Path below the folder, with forward slashes."""
    subject: str


def scan(folder: str | os.PathLike[str]) -> list[Recording]:
    """Find the recordings below a folder, sorted by name, without opening any.

    Taken are files that end in `.edf`, in any case, at any depth; hidden files are passed over, linked
    folders not followed. The subject is read off the file name where it follows TUH EEG, EEGMAT, EEGBCI or
    BIDS; otherwise files of a subfolder belong to one subject, and a file that lies in the folder itself is a
    subject of its own.

    Raises
    ------
    EEGDataError
        If the folder or a subfolder cannot be read, or there is no EDF file.
    """

    def refuse(error: OSError) -> None:
        raise EEGDataError({str(error.filename): f"cannot be read ({error.strerror})"}) from error

    folder = Path(folder)
    found = []
    for parent, _, files in os.walk(folder, onerror=refuse):
        for file in files:
            if file.lower().endswith(".edf") and not file.startswith("."):
                path = Path(parent, file)
                relative = path.relative_to(folder)
                named = _SUBJECT.fullmatch(path.stem)
                subject = named[named.lastindex or 0] if named else relative.parent.as_posix()
                found.append(Recording(path, relative.as_posix(), path.stem if subject == "." else subject))
    if not found:
        raise EEGDataError({str(folder): "no EDF file in this folder or below it"})
    return sorted(found, key=lambda recording: recording.name)


def _checked(
    recordings: list[Recording], preprocessing: Preprocessing, progress: bool
) -> tuple[list[Recording], dict[str, str]]:
    """Check all headers, several at a time, and return the recordings that can be used and the problems of the others.

    One header is open per thread, and only its first kilobytes are read; what is waited for is the disk.
    """

    def problem(recording: Recording) -> dict[str, str]:
        try:
            check_edf(recording.path, preprocessing)
        except EEGDataError as error:
            return error.problems
        return {}

    usable: list[Recording] = []
    problems: dict[str, str] = {}
    with ThreadPoolExecutor(N_THREADS) as threads:
        found = threads.map(problem, recordings)
        bar = tqdm(found, desc="EEG headers", total=len(recordings), unit="file", leave=False, disable=not progress)
        for recording, reasons in zip(recordings, bar, strict=True):
            problems |= reasons
            if not reasons:
                usable.append(recording)
    return usable, problems


def held_out_subjects(subjects: set[str], fraction: float, seed: int) -> set[str]:
    """Choose the held-out subjects: a fraction of them, rounded, at least one, by the hash of seed and name.

    Raises
    ------
    ConfigError
        If the fraction is not in [0, 1), or nobody is left to train on.
    """
    require(0 <= fraction < 1, "held_out", fraction, "must be from 0 to less than 1")
    if fraction == 0:
        return set()
    n = max(1, round(fraction * len(subjects)))
    allowed = f"leaves nobody to train on: {len(subjects)} subjects, {n} held out; 0 holds out none"
    require(n < len(subjects), "held_out", fraction, allowed)
    return set(sorted(subjects, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())[:n])


def declared_id(
    name: str, preprocessing: Preprocessing, split: Split, held_out: float = 0.25, split_seed: int = 0
) -> str:
    """Return the identity of a data set, which needs no data: `eeg:eegmat:single:250Hz:0.5-45Hz:train`.

    A held-out fraction other than a quarter, or another seed of the split, is appended.
    """
    other = "" if (held_out, split_seed) == (0.25, 0) else f":held-out={held_out:g}:split-seed={split_seed}"
    return f"eeg:{name}:{preprocessing.label}:{split}{other}"


def open_eeg(
    folder: str | os.PathLike[str],
    preprocessing: Preprocessing | None = None,
    *,
    split: Split = "train",
    held_out: float = 0.25,
    split_seed: int = 0,
    batch_size: int = 1024,
    seed: int = 0,
    cache: str | os.PathLike[str] | None = None,
    readable_only: bool = False,
    verify: bool = True,
    progress: bool = True,
    only: Collection[str] | None = None,
    name: str | None = None,
) -> EEGWindows:
    """Open a folder of EDF recordings, preprocessing those that are not in the cache.

    Parameters
    ----------
    folder : path-like
        With EDF files at any depth. Its own name is part of the data's identity.
    preprocessing : Preprocessing, optional
        Default: single channels at 250 Hz.
    split : {"train", "test"}
        Subjects to train on, or held-out subjects. Recordings of one subject are never on both sides.
    held_out : float
        Fraction of the subjects held out.
    split_seed : int
        Seed of the split, apart from `seed` so that runs with several seeds are tested on the same subjects.
    batch_size, seed : int
        Of the batches.
    cache : path-like, optional
        Folder of the shards; default `eeg-windows/` below `MFR_CACHE`, or below `.runs/` in the project.
    readable_only : bool
        Leave out recordings that cannot be used, with a warning, instead of refusing the folder.
    verify : bool
        Hold every shard against its checksum on opening, about a second per gigabyte; otherwise only its
        size.
    progress : bool
        Show a progress bar while headers are checked and while recordings are preprocessed.
    only : collection of str, optional
        Names of the recordings to use, below the folder; default: all.
    name : str, optional
        Of the data in their identity; default: the folder's.

    Returns
    -------
    EEGWindows
        The source.

    Raises
    ------
    EEGDataError
        Naming every file that cannot be used, with the reason. All headers are checked before any file is
        preprocessed.
    OSError
        If the cache cannot be written (no space, no permission). Shards finished before stay.

    Warns
    -----
    UserWarning
        If a shard is damaged (it is made again), or if files are left out.
    """
    preprocessing = preprocessing or Preprocessing()
    require(split in ("train", "test"), "split", split, "must be 'train' or 'test'")
    cache = Path(cache or cache_folder() / "eeg-windows")
    found = [recording for recording in scan(folder) if only is None or recording.name in only]
    usable, problems = _checked(found, preprocessing, progress)
    if problems and not (readable_only and usable):
        raise EEGDataError(problems)

    test = held_out_subjects({recording.subject for recording in usable}, held_out, split_seed)
    wanted = [recording for recording in usable if (recording.subject in test) == (split == "test")]
    shards: list[FileShard] = []
    for recording in tqdm(wanted, desc=f"EEG {split}", unit="file", leave=False, disable=not progress):
        try:
            shards.append(shard_of(recording.path, recording.name, recording.subject, preprocessing, cache, verify))
        except EEGDataError as error:
            problems |= error.problems
    if problems and not (readable_only and shards):
        raise EEGDataError(problems)
    if problems:
        warnings.warn(f"recordings left out:\n{EEGDataError(problems)}", stacklevel=2)
    identity = declared_id(name or Path(folder).resolve().name, preprocessing, split, held_out, split_seed)
    return EEGWindows(tuple(shards), identity, preprocessing.d_in, batch_size, seed)
