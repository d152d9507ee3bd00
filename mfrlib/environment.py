"""What a machine gives: the folders that its environment names, paths made absolute, and the packages of extras."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mfrlib.config import ConfigError, require

CHECKOUT = Path(__file__).resolve().parent.parent
EXTRAS = {
    "lm": ("transformers", "transformer_lens", "datasets", "huggingface_hub", "tokenizers", "pyarrow"),
    "eeg": ("mne", "sklearn", "pooch"),
    "dev": ("pytest", "playwright"),
}  # fmt: skip
"""Extras of the package, and the modules that they bring."""


def cache_folder() -> Path:
    """Return the folder that is written to: `MFR_CACHE`; else `.runs` in a checkout, or the user's own cache folder.

    Raises ConfigError if there is no home directory for it.
    """
    named = _named("MFR_CACHE")
    if named:
        return named
    return CHECKOUT / ".runs" if (CHECKOUT / "pyproject.toml").is_file() else user_cache()


def user_cache() -> Path:
    """Return mfrlib's folder in the user's own cache folder, also in a checkout; ConfigError if there is no home directory for it."""
    base = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    if base and Path(base).is_absolute():  # a relative one is void by the XDG specification
        return Path(base) / "mfrlib"
    try:
        return Path.home() / ".cache" / "mfrlib"
    except RuntimeError as error:
        raise ConfigError("MFR_CACHE: must name a folder to write to, for there is no home directory here") from error


def data_folder() -> Path | None:
    """Return the folder of real data that `MFR_DATA` names, or None where it is not set; ConfigError if it names no folder."""
    folder = _named("MFR_DATA")
    require(folder is None or folder.is_dir(), "MFR_DATA", str(folder), "must be a folder")
    return folder


def _named(variable: str) -> Path | None:
    """Return the absolute path that a variable holds, and keep it there: neither a child nor a later `chdir` moves it."""
    value = os.environ.get(variable)
    if not value:
        return None
    os.environ[variable] = absolute(value)
    return Path(os.environ[variable])


def absolute(path: str | os.PathLike[str]) -> str:
    """Return a path as meant where it is written, `~` being the home directory; ConfigError if it is none, or there is no home."""
    named = isinstance(path, str | os.PathLike) and os.fspath(path) != "" and "\0" not in str(path)
    require(named, "path", path, "must name a folder or file")
    try:
        return os.path.abspath(Path(path).expanduser())
    except RuntimeError as error:
        raise ConfigError(f"path: there is no home directory to begin at, given {str(path)!r}") from error


def require_device(device: Any) -> None:
    """Refuse a device, or the name of one, that is not there, or that nothing here was tested on (ConfigError)."""
    import torch

    kind, colon, number = str(device).partition(":")
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = {"cpu": 1, "cuda": cuda, "mps": int(torch.backends.mps.is_available())}.get(kind, 0)
    fits = number.isdecimal() and int(number) < there if colon else there > 0
    require(fits, "device", str(device), "must be cpu, or cuda or mps where there is such a GPU")


def shows(progress: bool) -> bool:
    """Tell whether to draw a bar that was asked for: a process without a console has no `sys.stderr`."""
    return progress and sys.stderr is not None


@contextmanager
def needed(what: str) -> Iterator[None]:
    """Turn the error of an import that fails into one that says what needs the package, and how to install it.

    Raises ImportError.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ImportError(f"{what} needs {advice(error) or error}", name=error.name) from error


def advice(error: ImportError) -> str:
    """Return the missing package and the command that installs it, or nothing where no extra brings it."""
    missing = (error.name or "").partition(".")[0]
    extra = next((extra for extra, modules in EXTRAS.items() if missing in modules), None)
    return f"the package {missing}: pip install 'mfrlib[{extra}]'" if extra else ""
