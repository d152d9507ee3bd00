"""The data that parameters name: where they lie, made absolute where they enter, and what they are called."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mfrbook.experiments import archived
from mfrlib.config import plain, require
from mfrlib.data.identity import Identity
from mfrlib.data.text import documents
from mfrlib.environment import absolute, cache_folder, data_folder
from mfrlib.language_models.pretrained import names
from mfrlib.language_models.pretrained.gguf import SMOLLM2

EEGBCI = "eegbci"
RESERVED = {
    "data": (EEGBCI,),
    "model": (names.EMBEDDED, SMOLLM2),
    "text": (archived.DOCUMENTATION, archived.SAMPLE, archived.ARTICLES),
}
"""Values of parameters that name no folder or file."""


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
        return value if archived.absent(value) else absolute(value)
    path = documents.find(value) if name == "text" else names.find(value)
    return value if path is None else absolute(str(path))


def identities(values: Mapping[str, Any]) -> dict[str, str]:
    """Return what the data that parameters name are called now, and those that `MFR_DATA` gives where none are named.

    Raises
    ------
    EEGDataError, LanguageModelError, TextError, ConfigError
        If what is named is not there.
    """
    found: dict[str, Identity] = {}
    profile = str(values.get("profile", ""))
    data = values.get("data") or archived.default_data(profile)
    if data and data not in RESERVED["data"]:
        found["data"] = archived.identity_of_recordings(data)
    found["eye_movements"] = archived.identity_of_eyes(
        values.get("eye_movements") or archived.default_eye_movements(profile)
    )
    if values.get("model") and values["model"] not in RESERVED["model"]:
        found["model"] = archived.identity_of_model(values["model"])
    if values.get("text"):
        found["text"] = archived.identity_of_text(values["text"])
    return {name: f"{one.name} {one.sha256}" for name, one in found.items()}
