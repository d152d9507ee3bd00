"""A folder of EEG recordings, none of them opened: whose they are, and what they are called in a run's key."""

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mfrlib.config import unknown_name
from mfrlib.data.eeg.header import EEGDataError
from mfrlib.data.identity import Identity, identify, of_file, of_files
from mfrlib.environment import absolute

# TUH aaaaaaaa_s001_t000 · EEGMAT Subject00_1 · EEGBCI S001R01 · BIDS sub-01_task-rest_eeg
_SUBJECT = re.compile(r"([a-z0-9]{8})_s\d{3}_.+|(Subject\d+)_\d+|(S\d{3})R\d{2}|(sub-[A-Za-z0-9]+)_.+")


@dataclass(frozen=True)
class Recording:
    """An EDF file of a folder, not yet opened."""

    path: Path
    name: str
    """Path below the folder, with forward slashes."""
    subject: str


def scan(folder: str | os.PathLike[str], only: Collection[str] | None = None) -> list[Recording]:
    """Find the recordings below a folder, or only those of some names, sorted by name, without opening any.

    Taken are files that end in `.edf`, in any case, at any depth; hidden files are passed over, linked folders not followed. The
    subject is read off the file name where it follows TUH EEG, EEGMAT, EEGBCI or BIDS; otherwise files of a subfolder belong to
    one subject, and a file that lies in the folder itself is a subject of its own.

    Raises EEGDataError if the folder or a subfolder cannot be read, or there is no EDF file; ConfigError if a name is that of none.
    """

    def refuse(error: OSError) -> None:
        raise EEGDataError({str(error.filename): f"cannot be read ({error.strerror})"}) from error

    folder = Path(absolute(folder))
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
    names = {one.name for one in found}
    if missing := {*(only or ())} - names:
        raise unknown_name(min(missing), names, "recording")
    return sorted((one for one in found if only is None or one.name in only), key=lambda recording: recording.name)


def identity_of(
    folder: str | os.PathLike[str], only: Collection[str] | None = None, readable_only: bool = False
) -> Identity:
    """Return the identity of recordings: by the archive's name where they are the archive's, else by their names and bytes.

    Raises EEGDataError if the folder or, unless `readable_only` leaves those out, a file cannot be read; or there is
    no recording.
    """
    hashes, problems = {}, {}
    for one in scan(folder, only):
        try:
            hashes[one.name] = of_file(one.path)
        except OSError as error:
            problems[str(one.path)] = f"cannot be read ({error.strerror or error})"
    if problems and not readable_only:
        raise EEGDataError(problems)
    return identify(of_files(hashes))
