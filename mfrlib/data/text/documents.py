"""Sources of text: documents from files, or streamed from the Hugging Face hub."""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from mfrlib.config import checked
from mfrlib.data.identity import Identity, identify, of_file, of_files
from mfrlib.data.text.files import KINDS, MARK, TextError, kind_of, read_files, text_files, without_nan
from mfrlib.environment import absolute, data_folder, needed

Split = Literal["train", "held-out"]
_HELD_OUT = 0.1


def identity_of(text: str) -> Identity:
    """Return the identity of a text, a data set of the hub by its revision, files by their bytes; TextError if it is not there."""
    path = find(text)
    if path is None:
        return Identity(f"{text}@{_revision(text)[:12]}")
    names = {one.relative_to(path).as_posix() if path.is_dir() else kind_of(one): one for one in text_files(path)}
    try:
        return identify(of_files({name: of_file(one) for name, one in names.items()}))
    except OSError as error:
        raise TextError(f"{error.filename or path}: cannot be read ({error.strerror})") from error


def documents(text: str, split: Split = "train") -> Iterator[str]:
    """Yield the documents of one side of a text, one at a time; empty ones are left out.

    Parameters
    ----------
    text : str
        - a file of a kind in `KINDS`, or a folder with some (other files are passed over), or the name of one below
          `text/` of the folder `MFR_DATA`. In .txt, lines `<|endoftext|>` separate documents; in .jsonl and
          .parquet a row is a document and its field `text` the text;
        - a data set of the Hugging Face hub, such as `Skylion007/openwebtext`, streamed.

        Whatever the source, a missing text (null, NaN) is passed over, byte-order marks in front of a document are taken off,
        and half of a surrogate pair, which no encoding of Unicode can write, becomes U+FFFD.
    split : {"train", "held-out"}
        Of files and data sets a tenth of the documents is held out, by the hash of their text.

    Raises
    ------
    TextError
        At once where the text cannot be found, while reading where it cannot be read: bytes that are not UTF-8, a line
        without text, a file cut short.
    """
    checked({"split": split}, {"split": Split})
    path = find(text)
    found = _from_hub(text) if path is None else read_files(text_files(path))
    return (one for one in cleaned(found) if split_of(one) == split)


def cleaned(found: Iterable[str | None]) -> Iterator[str]:
    """Yield strings as `documents` does: without missing and empty ones, byte-order marks and halves of surrogate pairs; TextError for others."""
    if isinstance(found, Mapping) or hasattr(found, "columns"):  # which would give the names of its columns
        raise TextError(f"documents: must be strings, such as a table's column 'text', given a {type(found).__name__}")
    for number, one in enumerate(map(without_nan, found)):
        if not isinstance(one, str | None):
            raise TextError(f"document {number}: must be a string, given {type(one).__name__}")
        if one is not None and (mended := _mended(one)).strip():
            yield mended


def _mended(document: str) -> str:
    document = document.lstrip(MARK)
    try:
        document.encode()
    except UnicodeEncodeError:  # two halves that belong together become the character that they stand for
        document = document.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return document


def find(text: str) -> Path | None:
    """Return the file or folder that a text's name means, None for a data set of the hub; TextError if it looks like a path and is not there."""
    folder = data_folder()
    for path in (Path(absolute(text)), *([folder / "text" / text] if folder else [])) if text else ():
        if os.path.exists(path):  # a text that was meant for its name is too long for a path, which is no error here
            return path
    if bool(kind_of(Path(text))) or not re.fullmatch(r"[\w.-]+/[\w.-]+", text):  # no name of a data set
        hint = "" if folder else "; MFR_DATA, below which text/ is looked in too, is not set"
        shown = text if len(text) <= 200 else f"{text[:200]}…"
        raise TextError(f"text {shown!r}: there is no such file or folder{hint}; documents themselves go in a list")
    return None


def split_of(document: str) -> Split:
    """Return the side of a document: a tenth, by the hash of its text, is held out."""
    digest = hashlib.sha256(document.encode(errors="surrogatepass")).digest()
    return "held-out" if int.from_bytes(digest[:8]) / 2**64 < _HELD_OUT else "train"


def _revision(name: str) -> str:
    """Return the commit of a data set of the hub."""
    with needed(f"text {name!r}, a data set of the hub,"):
        import huggingface_hub
    try:
        return str(huggingface_hub.dataset_info(name).sha)
    except Exception as error:
        raise _not_had(name, error) from error


def _not_had(name: str, error: Exception) -> TextError:
    reason = next(iter(str(error).splitlines()), "")
    return TextError(
        f"text {name!r} is not a file here and cannot be had from the Hugging Face hub "
        f"({type(error).__name__}: {reason}). With a network, unset HF_HUB_OFFLINE and "
        f"HF_DATASETS_OFFLINE; without one, give a file ({', '.join(KINDS)})"
    )


def _from_hub(name: str) -> Iterator[str | None]:
    with needed(f"text {name!r}, a data set of the hub,"):
        import datasets
    try:
        rows = datasets.load_dataset(name, split="train", streaming=True)
        first = next(iter(rows))
    except Exception as error:  # the library raises what its file systems and HTTP clients raise
        raise _not_had(name, error) from error
    if not isinstance(without_nan(first.get("text", 0)), str | None):
        raise TextError(f"text {name!r}: its rows have no field 'text'; there are: {', '.join(first)}")
    return (row["text"] for row in rows)
