"""Preprocessed recordings on disk: each a *shard*, a plain file of float32 vectors, with a JSON note.

A recording is preprocessed once; a batch then reads only its own rows. Both files are written under another
name, flushed and renamed, the note last: where a note is, its shard is whole. Names are a hash of the
recording's path, size, number and times, the preprocessing and `FORMAT`.
"""

import hashlib
import itertools
import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mfrlib.data.eeg.edf import EDF
from mfrlib.data.eeg.header import EEGDataError
from mfrlib.data.eeg.listing import Recording
from mfrlib.data.eeg.recording import vectors
from mfrlib.data.files import replacing, require_whole, stamp
from mfrlib.data.identity import of_file

FORMAT = 2
"""Version of what a shard holds; raise it whenever the same settings would give other vectors."""


@dataclass(frozen=True)
class FileShard:
    """The vectors of one recording, on disk."""

    source: Recording
    edf: EDF
    """The file that they come from."""
    n_vectors: int
    """Number of vectors."""
    source_sha256: str
    """Hash of the recording's file."""
    path: Path
    """The shard."""

    @property
    def recording(self) -> str:
        """Name of the recording."""
        return self.source.name

    @property
    def subject(self) -> str:
        """Name of its subject."""
        return self.source.subject

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the rows asked for, `(len(rows), d_in)`; neighbours are read in one go, others not at all.

        Plain reads rather than a memory map: they count neither as address space nor as resident memory.

        Raises EEGDataError if the shard has become shorter since it was opened.
        """
        d_in = self.edf.preprocessing.d_in
        out = np.empty((len(rows), d_in), dtype="<f4")
        edges = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        with self.path.open("rb", buffering=0) as file:
            for start, end in itertools.pairwise(edges):
                into = out[start:end]
                file.seek(4 * d_in * int(rows[start]))
                if file.readinto(into.data) != into.nbytes:
                    reason = f"its shard {self.path} was cut short: open the folder again"
                    raise EEGDataError({self.recording: reason})
        return out.astype(np.float32, copy=False)


@dataclass(frozen=True, eq=False)
class MemoryShard:
    """The vectors of one recording, in memory."""

    recording: str
    """Name of the recording."""
    subject: str
    """Name of its subject."""
    values: NDArray[np.float32]
    """`(n_vectors, d_in)`."""

    @property
    def n_vectors(self) -> int:
        """Number of vectors."""
        return len(self.values)

    @property
    def source_sha256(self) -> str:
        """Hash of the vectors."""
        return hashlib.sha256(self.values.tobytes()).hexdigest()

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the rows asked for, `(len(rows), d_in)`."""
        return self.values[rows]


def shard_of(recording: Recording, edf: EDF, cache: Path, verify: bool = True) -> FileShard:
    """Return the shard of a recording in a cache, making it where there is none or, with a warning, where it is damaged.

    With `verify` its checksum counts, and not only its size. Raises EEGDataError if the file cannot be used, or has no
    usable window; OSError if the cache cannot be written.
    """
    identity = json.dumps([FORMAT, stamp(edf.path), asdict(edf.preprocessing)], sort_keys=True)
    path = cache / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.f32"
    note, d_in = path.with_suffix(".json"), edf.preprocessing.d_in
    if note.exists():
        try:
            about = json.loads(note.read_text(encoding="utf-8"))
            require_whole(path, 4 * d_in * about["n_vectors"], about["sha256"] if verify else None)
            return FileShard(recording, edf, about["n_vectors"], str(about["source_sha256"]), path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            warnings.warn(f"EEG shard {path} of {recording.name} is damaged ({error}) and made again", stacklevel=3)
            note.unlink(missing_ok=True)

    try:
        source_sha256 = of_file(edf.path)
    except OSError as error:
        raise EEGDataError({str(edf.path): f"cannot be read ({error.strerror})"}) from error
    n_vectors, digest = 0, hashlib.sha256()
    cache.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        for block in edf.windows():
            rows = vectors(block, edf.preprocessing)
            data = rows.astype("<f4", copy=False).tobytes()
            n_vectors += len(rows)
            digest.update(data)
            file.write(data)
        if n_vectors == 0:
            raise EEGDataError({str(edf.path): "no usable window: flat, held or clipped throughout"})
    about = {"recording": recording.name, "preprocessing": edf.preprocessing.label, "source_sha256": source_sha256,
             "n_vectors": n_vectors, "sha256": digest.hexdigest()}  # fmt: skip
    with replacing(note) as file:
        file.write(json.dumps(about, indent=1).encode())
    return FileShard(recording, edf, n_vectors, source_sha256, path)
