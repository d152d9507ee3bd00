"""Data that the archive knows by name: where they lie here, and what they are called where they do not."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from mfrlib.config import require
from mfrlib.data.eeg import listing
from mfrlib.data.identity import ARCHIVED, Identity, identify, of_file
from mfrlib.data.text import documents
from mfrlib.data.text.documents import TextError
from mfrlib.denoising import artefacts
from mfrlib.environment import data_folder
from mfrlib.language_models.pretrained import gguf, names

RECORDINGS, EYE_MOVEMENTS = "eegmat", "eog_rem_256Hz"
ARTICLES = "web-articles"
"""2,980 web articles, `text/` of the folder `MFR_DATA`; known by their bytes."""
SAMPLE, DOCUMENTATION = "sample", "python-docs"
"""The text that is drawn from the model itself, and the documentation on this machine (`docstrings`)."""


def absent(data: str) -> bool:
    """Tell the archive's name of data, where they are not here, from a folder or file."""
    return data in ARCHIVED and not Path(data).exists()


def not_here(config: Any) -> str:
    """Return why nothing can be computed from a config's data that go by the archive's names only, or nothing where they are here."""
    given = {name: getattr(config, name) for name in ("data", "eye_movements") if absent(getattr(config, name, ""))}
    if not given:
        return ""
    return f"{', '.join(given)}: must be a place here to compute a run from, or set MFR_DATA; only the archive knows the name, given {' and '.join(map(repr, given.values()))}"


def default_data(profile: str) -> str:
    """Return the recordings used where none are named: EEGMAT below `MFR_DATA`, else the simulation.

    For `published` the archive's, by their name where `MFR_DATA` holds others or is not set.
    """
    place = data_folder()
    folder = place / "eeg" / RECORDINGS if place else None
    there = str(folder) if folder is not None and folder.is_dir() else ""
    if profile != "published":
        return there
    return there if there and identity_of_recordings(there) == Identity(RECORDINGS) else RECORDINGS


def default_eye_movements(profile: str) -> str:
    """Return the eye movements used where none are named: those below `MFR_DATA`, else simulated ones.

    For `published` the archive's, by their name where `MFR_DATA` holds others or is not set.
    """
    there = artefacts.default_eye_movements()
    if profile != "published":
        return there
    return there if there and identity_of_eyes(there) == Identity(EYE_MOVEMENTS) else EYE_MOVEMENTS


def identity_of_recordings(folder: str | os.PathLike[str], only: Collection[str] | None = None) -> Identity:
    """Return the identity of a folder of recordings; those of the archive need not be here.

    Raises
    ------
    EEGDataError
        If the folder or a file cannot be read, or there is no recording.
    """
    return Identity(str(folder)) if absent(str(folder)) else listing.identity_of(folder, only)


def identity_of_eyes(path: str) -> Identity:
    """Return the identity of a file of eye movements, or of simulated ones where none is given.

    Raises
    ------
    ConfigError
        If there is no such file.
    """
    if not path or absent(path):
        return Identity(path or "simulated")
    require(Path(path).is_file(), "eye_movements", path, artefacts.EYES_FILE)
    return identify(of_file(path))


def identity_of_model(name: str) -> Identity:
    """Return the identity of a language model; one that is known but not fetched yet goes by its name.

    Raises
    ------
    LanguageModelError
        If there is no such model, or the folder holds none.
    """
    return Identity(name) if absent_model(name) else names.identity_of(name)


def absent_model(name: str) -> bool:
    """Tell the name of a model that is known but not on this machine yet."""
    if name != gguf.SMOLLM2:
        return False
    try:
        return names.find(name) is None
    except names.LanguageModelError:
        return True


def identity_of_text(text: str) -> Identity:
    """Return the identity of a text; the archive's articles need not be here.

    Raises
    ------
    TextError
        If the text is not there.
    """
    named = text in (SAMPLE, DOCUMENTATION) or (text == ARTICLES and not Path(text).exists())
    return Identity(text) if named else documents.identity_of(text)


def located_text(text: str) -> str:
    """Return where a text is: the archive's articles in the folder `MFR_DATA`, any other as it is named.

    Raises
    ------
    TextError
        If the articles are not there.
    """
    if text != ARTICLES or Path(text).exists():
        return text
    folder = data_folder()
    place = folder / "text" if folder else None
    if place is None or not place.is_dir() or documents.identity_of(str(place)) != Identity(ARTICLES):
        there = "MFR_DATA is not set" if place is None else f"{place} does not hold them"
        raise TextError(f"text {text!r}: these articles are looked for in text/ of the folder MFR_DATA, and {there}")
    return str(place)
