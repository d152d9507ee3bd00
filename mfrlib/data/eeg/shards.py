"""Preprocessed recordings on disk: each a *shard*, a plain file of float32 vectors, with a JSON note.

A recording is preprocessed once; a batch then reads only its own rows. Both files are written under another
name, flushed and renamed, the note last: where a note is, its shard is whole. Names are a hash of the
recording's path, size, number and times, the preprocessing and `FORMAT`.
"""

import hashlib
import itertools
import json
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mfrlib.data.eeg.header import EEGDataError
from mfrlib.data.eeg.preprocessing import Preprocessing
from mfrlib.data.eeg.recording import physical_limits, read_edf, vectors, windows

FORMAT = 2
"""Version of what a shard holds; raise it whenever the same settings would give other vectors."""


@dataclass(frozen=True)
class FileShard:
    """The vectors of one recording, on disk."""

    recording: str
    """Name of the recording."""
    subject: str
    """Name of its subject."""
    n_vectors: int
    """Number of vectors."""
    d_in: int
    """Length of a vector."""
    source_sha256: str
    """Hash of the recording's file."""
    path: Path
    """The shard."""

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the rows asked for, `(len(rows), d_in)`; neighbours are read in one go, others not at all.

        Plain reads rather than a memory map: they count neither as address space nor as resident memory.

        Raises
        ------
        EEGDataError
            If the shard has become shorter since it was opened.
        """
        out = np.empty((len(rows), self.d_in), dtype="<f4")
        edges = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        with self.path.open("rb", buffering=0) as file:
            for start, end in itertools.pairwise(edges):
                into = out[start:end]
                file.seek(4 * self.d_in * int(rows[start]))
                if file.readinto(into.data) != into.nbytes:
                    reason = f"its shard {self.path} was cut short: open the folder again"
                    raise EEGDataError({self.recording: reason})
        return out.astype(np.float32, copy=False)


def shard_of(
    source: Path, recording: str, subject: str, preprocessing: Preprocessing, cache: Path, verify: bool = True
) -> FileShard:
    """Return the shard of a recording, making it where there is none or where it is damaged.

    Parameters
    ----------
    source : Path
        The EDF file.
    recording, subject : str
        Their names.
    preprocessing : Preprocessing
        The settings.
    cache : Path
        Folder of the shards.
    verify : bool
        Check the checksum, and not only the size.

    Raises
    ------
    EEGDataError
        If the file cannot be used, or has no usable window.
    OSError
        If the cache cannot be written.

    Warns
    -----
    UserWarning
        If the shard is damaged.
    """
    status = source.stat()
    file_identity = [str(source.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    identity = json.dumps([FORMAT, file_identity, asdict(preprocessing)], sort_keys=True)
    path = cache / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.f32"
    note = path.with_suffix(".json")
    if note.exists():
        try:
            about = json.loads(note.read_text(encoding="utf-8"))
            _check(path, about, preprocessing.d_in, verify)
            return FileShard(recording, subject, about["n_vectors"], preprocessing.d_in, about["source_sha256"], path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            warnings.warn(f"EEG shard {path} of {recording} is damaged ({error}) and made again", stacklevel=3)
            note.unlink(missing_ok=True)

    raw = read_edf(source, preprocessing)
    try:
        about = {
            "recording": recording,
            "preprocessing": preprocessing.label,
            "source_sha256": _sha256(source),
        }
    except OSError as error:
        raise EEGDataError({str(source): f"cannot be read ({error.strerror})"}) from error
    n_vectors, digest = 0, hashlib.sha256()
    cache.mkdir(parents=True, exist_ok=True)
    with _replacing(path) as file:
        for block in windows(raw, preprocessing, physical_limits(source, preprocessing)):
            rows = vectors(block, preprocessing)
            data = rows.astype("<f4", copy=False).tobytes()
            n_vectors += len(rows)
            digest.update(data)
            file.write(data)
        if n_vectors == 0:
            raise EEGDataError({str(source): "no usable window: flat, held or clipped throughout"})
    about |= {"n_vectors": n_vectors, "sha256": digest.hexdigest()}
    with _replacing(note) as file:
        file.write(json.dumps(about, indent=1).encode())
    return FileShard(recording, subject, n_vectors, preprocessing.d_in, about["source_sha256"], path)


def _check(path: Path, about: Any, d_in: int, verify: bool) -> None:
    """Raise ValueError unless a shard is what its note says."""
    size, expected = path.stat().st_size, 4 * d_in * about["n_vectors"]
    if size != expected or size == 0:
        raise ValueError(f"{size} bytes instead of {expected}")
    if not isinstance(about["source_sha256"], str):
        raise ValueError("its note has no hash of the source")
    if verify and _sha256(path) != about["sha256"]:
        raise ValueError("checksum differs")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes the name `path`, in one step, once it is complete and on disk."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".writing-", delete=False) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            file.close()  # Windows renames no open file
            os.replace(file.name, path)
        except BaseException:
            file.close()
            os.unlink(file.name)
            raise
