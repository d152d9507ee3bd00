"""A folder of EEG recordings as a source of batches, larger than memory if need be (reading R17)."""

import hashlib
import os
import warnings
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from mfrlib.config import checked, require
from mfrlib.data.eeg.edf import EDF, open_edf
from mfrlib.data.eeg.header import EEGDataError, NoSignalError
from mfrlib.data.eeg.listing import Recording, identity_of, scan
from mfrlib.data.eeg.preprocessing import Preprocessing
from mfrlib.data.eeg.shards import FileShard, shard_of
from mfrlib.data.eeg.windows import EEGWindows
from mfrlib.data.identity import Identity, joined
from mfrlib.environment import absolute, cache_folder, shows

Split = Literal["train", "test"]
HELD_OUT, SPLIT_SEED = 0.25, 0  # fraction of the subjects, where nothing else is said
LEAVE_OUT = "readable_only=true leaves out what cannot be used"
N_THREADS = 8
"""Headers read at a time."""


def usable_recordings(
    folder: str | os.PathLike[str], preprocessing: Preprocessing, *, readable_only: bool = False, progress: bool = False,
    only: Collection[str] | None = None,
) -> tuple[dict[Recording, EDF], dict[str, str]]:  # fmt: skip
    """Return the recordings of a folder that can be used, judged by their headers, and the problems of the others.

    Files that hold annotations only (EDF+) are no recordings, and are passed over. Headers are read several at a time: what
    is waited for is the disk. Raises EEGDataError if there are problems, unless `readable_only` leaves those out; or if
    nothing can be used. ConfigError if `only` names a recording that is not there.
    """
    found = scan(folder, only)
    usable: dict[Recording, EDF] = {}
    problems: dict[str, str] = {}

    def read(recording: Recording) -> EDF | EEGDataError:
        try:
            return open_edf(recording.path, preprocessing)
        except EEGDataError as error:
            return error

    with ThreadPoolExecutor(N_THREADS) as threads:
        headers = threads.map(read, found)
        bar = tqdm(headers, desc="EEG headers", total=len(found), unit="file", leave=False, disable=not shows(progress))
        for recording, edf in zip(found, bar, strict=True):
            if isinstance(edf, EDF):
                usable[recording] = edf
            elif not isinstance(edf, NoSignalError):
                problems |= edf.problems
    if problems and not (readable_only and usable):
        raise EEGDataError(problems, LEAVE_OUT if usable else "")
    if not usable:
        raise EEGDataError({str(folder): "holds annotations only, no signal" if found else "no recording is asked for"})
    return usable, problems


def held_out_subjects(subjects: set[str], fraction: float = HELD_OUT, seed: int = SPLIT_SEED) -> set[str]:
    """Choose the held-out subjects: a fraction of them, rounded, at least one, by the hash of seed and name.

    Raises ConfigError if the fraction is not in [0, 1), or nobody is left to train on.
    """
    require(0 <= fraction < 1, "held_out", fraction, "must be from 0 to less than 1")
    if fraction == 0:
        return set()
    n = max(1, round(fraction * len(subjects)))
    allowed = f"leaves nobody to train on: {len(subjects)} subjects, {n} held out; 0 holds out none"
    require(n < len(subjects), "held_out", fraction, allowed)

    def drawn(name: str) -> bytes:
        return hashlib.sha256(f"{seed}:{name}".encode(errors="surrogateescape")).digest()

    return set(sorted(subjects, key=drawn)[:n])


def identity_of_windows(
    name: str | Identity, preprocessing: Preprocessing, split: Split, held_out: float = HELD_OUT,
    split_seed: int = SPLIT_SEED,
) -> str:  # fmt: skip
    """Return the identity of a data set, `eeg:eegmat:single:250Hz:0.5-45Hz:train`, or `eeg:own:…:train:sha256:0123456789abcdef`.

    A held-out fraction other than a quarter, or another seed of the split, is appended.
    """
    usual = (held_out, split_seed) == (HELD_OUT, SPLIT_SEED)
    other = "" if usual else f":held-out={held_out:g}:split-seed={split_seed}"
    return joined(f"eeg:{name}:{preprocessing.label}:{split}{other}", name)


def open_eeg(
    folder: str | os.PathLike[str], preprocessing: Preprocessing | None = None, *, split: Split = "train",
    held_out: float = HELD_OUT, split_seed: int = SPLIT_SEED, batch_size: int = 1024, seed: int = 0,
    cache: str | os.PathLike[str] | None = None, readable_only: bool = False, verify: bool = True,
    progress: bool = True, only: Collection[str] | None = None,
) -> EEGWindows:  # fmt: skip
    """Open a folder of EDF recordings, preprocessing those that are not in the cache.

    Parameters
    ----------
    folder : path-like
        With EDF files at any depth. Their names below it and their bytes are the data's identity.
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
        Folder of the shards; default `eeg-windows/` below `mfrlib.environment.cache_folder`.
    readable_only : bool
        Leave out recordings that cannot be used, with a warning, instead of refusing the folder.
    verify : bool
        Hold every shard against its checksum on opening, about a second per gigabyte; otherwise only its size.
    progress : bool
        Show a progress bar while headers are checked and while recordings are preprocessed.
    only : collection of str, optional
        Names of the recordings to use, below the folder; default: all.

    Returns
    -------
    EEGWindows
        The source.

    Raises
    ------
    EEGDataError
        Naming every file that cannot be used, with the reason. All headers are checked before any file is preprocessed.
    OSError
        If the cache cannot be written (no space, no permission). Shards finished before stay.

    Warns
    -----
    UserWarning
        If a shard is damaged (it is made again), or if files are left out.
    """
    preprocessing = preprocessing or Preprocessing()
    checked({"split": split}, {"split": Split})
    cache = Path(absolute(cache or cache_folder() / "eeg-windows"))
    require(not isinstance(only, str), "only", only, "must be a list of names")
    usable, problems = usable_recordings(
        folder, preprocessing, readable_only=readable_only, progress=progress, only=only
    )
    test = held_out_subjects({recording.subject for recording in usable}, held_out, split_seed)
    wanted = {one: edf for one, edf in usable.items() if (one.subject in test) == (split == "test")}
    shards: list[FileShard] = []
    bar = tqdm(wanted.items(), desc=f"EEG {split}", unit="file", leave=False, disable=not shows(progress))
    for recording, edf in bar:
        try:
            shards.append(shard_of(recording, edf, cache, verify))
        except EEGDataError as error:
            problems |= error.problems
    if problems and not (readable_only and shards):
        raise EEGDataError(problems, LEAVE_OUT if shards and not readable_only else "")
    if problems:
        warnings.warn(f"recordings left out:\n{EEGDataError(problems)}", stacklevel=2)
    identity = identity_of_windows(identity_of(folder, only, readable_only), preprocessing, split, held_out, split_seed)
    return EEGWindows(tuple(shards), identity, preprocessing.d_in, batch_size, seed)
