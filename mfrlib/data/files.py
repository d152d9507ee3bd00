"""Files that are written whole or not at all, and known by their bytes."""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any


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


def save_tensors(tensors: Mapping[str, Any], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file for whoever may read other files of the folder; the library's own are its owner's alone; an error leaves nothing (OSError)."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path.unlink(missing_ok=True)
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(dict(tensors), path, metadata)
    except (OSError, SafetensorError) as error:
        path.unlink(missing_ok=True)  # the part that was written
        raise OSError(f"{path}: cannot be written ({error}); free space or take another folder") from error
    path.chmod(mode)


def locked(path: Path, wait: float) -> AbstractContextManager[object]:
    """Keep other processes out by a lock at a path, nothing where a file system has none; TimeoutError after `wait` seconds (-1: never)."""
    from filelock import FileLock

    try:
        return FileLock(path).acquire(timeout=wait)
    except NotImplementedError:
        return nullcontext()


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
