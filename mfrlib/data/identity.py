"""Which data a run was made from: those that the archive knows go by their name, all others by their bytes."""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mfrlib.config import ConfigError
from mfrlib.data.files import replacing, sha256, stamp
from mfrlib.environment import cache_folder

ARCHIVED = {
    "eegmat": "d1219f08984bf7760a4b640242cea8097e65191c442e49e7debd899d7b36274f",
    "eog_rem_256Hz": "d36a023b0cf37e6f06bd582fc043cd7d36aead9b00d7387e6b6238bfd63b9df0",
    "smollm2": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "tiny-lm": "2937171be387e63c12d2189520c01cdb77668490f7a3487a497b1a288e491582",
    "web-articles": "dad8d3b64eefc067a39718160f23512195ad16093050df1c8c0aca17de09e61b",
}
"""Names in the archive, and the SHA-256 of what each stands for, by `of_files`; of a model that was converted, that of its GGUF file."""

OWN = "own"
_KEPT_FROM = 2**20  # bytes of a file from which on its hash is kept on disk
_hashes: dict[str, str] = {}


class Identity(NamedTuple):
    """What data are called in a run's key."""

    name: str
    """A name that says which they are, or `own`."""
    sha256: str = ""
    """Of their bytes, where the name does not say which they are."""

    def __str__(self) -> str:
        """Return the name."""
        return self.name


def identify(sha256: str) -> Identity:
    """Return the identity of data with this hash: the archive's name for them, where it has one."""
    known = next((name for name, its in ARCHIVED.items() if its == sha256), None)
    return Identity(known) if known else Identity(OWN, sha256)


def joined(text: str, *parts: str | Identity) -> str:
    """Return an identity in words, followed by the bytes that stand behind its parts: `…:sha256:0123456789abcdef`."""
    hashes = [one.sha256 for one in parts if isinstance(one, Identity) and one.sha256]
    if not hashes:
        return text
    whole = hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    return f"{text}:sha256:{whole[:16]}"


def of_files(files: Mapping[str, str]) -> str:
    """Return the SHA-256 of files, given the hash of each by its name; their folder's name does not count."""
    lines = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(files.items()))
    return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()  # as a file system writes names


def of_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file, or raise OSError.

    A file that has not been touched since is not read again: its hash is kept under its `stamp`.
    """
    path = Path(path)
    where = stamp(path)
    if not path.is_file():
        raise OSError("not a regular file")  # reading a pipe would wait for ever
    key = hashlib.sha256(json.dumps(where).encode()).hexdigest()[:32]
    if key in _hashes:
        return _hashes[key]
    kept = None
    if where[1] >= _KEPT_FROM:
        with contextlib.suppress(ConfigError):  # without a home directory it is read anew in every process
            kept = cache_folder() / "hashes" / key
    if kept is not None:
        with contextlib.suppress(OSError, ValueError):
            found = kept.read_text(encoding="ascii")
            if len(found) == 64:
                return _hashes.setdefault(key, found)
    found = sha256(path)
    if kept is not None:
        with contextlib.suppress(OSError):  # it only spares time
            kept.parent.mkdir(parents=True, exist_ok=True)
            with replacing(kept) as file:
                file.write(found.encode())
    return _hashes.setdefault(key, found)
