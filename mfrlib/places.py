"""Where data and runs lie: the two folders that the environment names, and paths made absolute where they enter."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mfrbook.store.provenance import PROJECT
from mfrlib.config import ConfigError, plain, require

RESERVED = {"data": ("eegbci",), "model": ("tiny-lm",), "text": ("python-docs", "sample")}
"""Values of parameters that name no folder or file."""


def cache_folder() -> Path:
    """Return the folder that is written to: `MFR_CACHE`; else `.runs` in a checkout, or the user's own cache folder.

    Raises
    ------
    ConfigError
        If there is no home directory for it.
    """
    named = _named("MFR_CACHE")
    if named:
        return named
    if (PROJECT / "pyproject.toml").is_file():
        return PROJECT / ".runs"
    base = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    if base and Path(base).is_absolute():  # a relative one is void by the XDG specification
        return Path(base) / "mfrlib"
    try:
        return Path.home() / ".cache" / "mfrlib"
    except RuntimeError as error:
        raise ConfigError("MFR_CACHE: must name a folder to write to, for there is no home directory here") from error


def data_folder() -> Path | None:
    """Return the folder of real data that `MFR_DATA` names, or None where it is not set.

    Raises
    ------
    ConfigError
        If it names no folder.
    """
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


def absolute(path: str) -> str:
    """Return a path as it is meant where it is written: from the current folder, `~` being the home directory."""
    try:
        return os.path.abspath(Path(path).expanduser())
    except RuntimeError as error:
        raise ConfigError(f"path: there is no home directory to begin at, given {path!r}") from error


def resolved(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters whose folders and files are absolute, before a process in another folder reads them.

    The folders that the environment names become absolute as well.

    Raises
    ------
    ConfigError
        If `MFR_DATA` names no folder, or a value names both something built in and a folder or file here.
    LanguageModelError, TextError
        If a model or a text looks like a path and is not there.
    """
    cache_folder()
    data_folder()
    found = {name: plain(value) for name, value in values.items()}
    for name in ("data", "eye_movements", "model", "text"):
        value = found.get(name)
        if not isinstance(value, str) or not value:
            continue
        if value in RESERVED.get(name, ()):
            other = f"is built in, and a folder or file here has the same name: write ./{value} for that"
            require(not Path(value).exists(), name, value, other)
        else:
            found[name] = _place(name, value)
    return found


def located(name: str, value: str) -> str:
    """Return the absolute path that a parameter's value stands for, or the value where it names data elsewhere, or none."""
    try:
        return _place(name, value)
    except ValueError:  # said by whoever opens it: a stored config names folders that may be gone
        return value


def _place(name: str, value: str) -> str:
    if not value or value in RESERVED.get(name, ()):
        return value
    if name in ("data", "eye_movements"):
        from mfrlib.data.identity import ARCHIVED

        return value if value in ARCHIVED and not Path(value).exists() else absolute(value)
    if name == "text":
        from mfrlib.data.text import documents as text

        path = text.find(value)
    else:
        from mfrlib.language_models import pretrained

        path = pretrained.find(value)
    return value if path is None else absolute(str(path))
