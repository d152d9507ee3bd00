"""Files that are written whole or not at all, and known by their bytes."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes the name `path`, in one step, once it is complete and on disk; an error leaves nothing."""
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


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, read anew."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_whole(path: Path, size: int, digest: str | None) -> None:
    """Refuse a file of another size or, where one is given, of another SHA-256 (ValueError); OSError if it cannot be read."""
    found = path.stat().st_size
    if found != size or size == 0:
        raise ValueError(f"{found} bytes instead of {size}")
    if digest is not None and sha256(path) != digest:
        raise ValueError("checksum differs")


def stamp(path: Path) -> tuple[str, int, int, int, int]:
    """Return place, size, times and number of a file, which differ once it was touched: no program can put back the time of change."""
    status = path.stat()
    return str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
