"""Sources of text: documents from this machine's documentation, from files, or streamed from the Hugging Face hub."""

import hashlib
import io
import json
import lzma
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from mfrlib.config import require
from mfrlib.data.identity import OWN, Identity, of_file, of_files
from mfrlib.data.text import docstrings
from mfrlib.extras import needed
from mfrlib.places import absolute, data_folder

Split = Literal["train", "held-out"]
EMBEDDED, SAMPLE = "python-docs", "sample"
"""The built-in texts are the documentation on this machine, and what is drawn from the model itself."""
KINDS = (".txt", ".jsonl", ".jsonl.xz", ".parquet")
SEPARATOR = "<|endoftext|>"
_MARK = "\ufeff"
_HELD_OUT = 0.1


class TextError(ValueError):
    """Text that cannot be had or read; the message names the place, the reason and what to do."""


def text_id(text: str) -> str:
    """Return the declared name of a text, without opening it: that of the file or folder, no path of this machine."""
    return text if text == EMBEDDED or not _local(text) else Path(text).name


def identity_of(text: str) -> Identity:
    """Return the identity of a text: a built-in one by its name, a data set of the hub by its revision, files by their bytes.

    Raises
    ------
    TextError
        If the text is not there.
    """
    if text in (EMBEDDED, SAMPLE):
        return Identity(text)
    path = find(text)
    if path is None:
        return Identity(f"{text}@{_revision(text)[:12]}")
    names = {one.relative_to(path).as_posix() if path.is_dir() else _kind(one): one for one in _files(path)}
    try:
        return Identity(OWN, of_files({name: of_file(one) for name, one in names.items()}))
    except OSError as error:
        raise TextError(f"{error.filename or path}: cannot be read ({error.strerror})") from error


def documents(text: str = EMBEDDED, split: Split = "train") -> Iterator[str]:
    """Yield the documents of one side of a text, one at a time; empty ones are left out.

    Parameters
    ----------
    text : str
        - `python-docs`: the documentation on this machine (`mfrlib.data.text.docstrings`), split by module;
        - a file of a kind in `KINDS`, or a folder with some (other files are passed over), or the name of one below
          `text/` of the folder `MFR_DATA`. In .txt, lines `<|endoftext|>` separate documents; in .jsonl and
          .parquet a row is a document and its field `text` the text;
        - a data set of the Hugging Face hub, such as `Skylion007/openwebtext`, streamed.

        Whatever the source, a missing text (null) is passed over, a byte-order mark in front of a document is taken off,
        and half of a surrogate pair, which no encoding of Unicode can write, becomes U+FFFD.
    split : {"train", "held-out"}
        Of files and data sets a tenth of the documents is held out, by the hash of their text.

    Raises
    ------
    TextError
        At once where the text cannot be found, while reading where it cannot be read: bytes that are not UTF-8, a line
        without text, a file cut short.
    """
    require(split in ("train", "held-out"), "split", split, "must be 'train' or 'held-out'")
    if text == EMBEDDED:
        return docstrings.documents(split)
    path = find(text)
    found = _from_hub(text) if path is None else _from_files(_files(path))
    mended = (_mended(one) for one in found if one is not None)
    return (one for one in mended if one.strip() and _split_of(one) == split)


def _mended(document: str) -> str:
    """Return a document without a byte-order mark in front, and without halves of surrogate pairs."""
    document = document.removeprefix(_MARK)
    try:
        document.encode()
    except UnicodeEncodeError:  # two halves that belong together become the character that they stand for
        document = document.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return document


def find(text: str) -> Path | None:
    """Return the file or folder that a text's name means, None for a data set of the hub.

    Raises
    ------
    TextError
        If it looks like a path and is not there.
    """
    folder = data_folder()
    for path in (Path(absolute(text)), *([folder / "text" / text] if folder else [])):
        if text and path.exists():
            return path
    if _local(text):
        hint = "" if folder else "; MFR_DATA, below which text/ is looked in too, is not set"
        raise TextError(f"text {text!r}: there is no such file or folder{hint}")
    return None


def _local(text: str) -> bool:
    """Tell whether a name is that of a file rather than of a data set."""
    return Path(text).exists() or bool(_kind(Path(text))) or not re.fullmatch(r"[\w.-]+/[\w.-]+", text)


def _kind(path: Path) -> str:
    """Return which of `KINDS` a file's name says it is, in any case, or nothing."""
    return next((kind for kind in KINDS if path.name.lower().endswith(kind)), "")


def _split_of(document: str) -> Split:
    digest = hashlib.sha256(document.encode(errors="surrogatepass")).digest()
    return "held-out" if int.from_bytes(digest[:8]) / 2**64 < _HELD_OUT else "train"


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = (one for one in path.rglob("*") if _kind(one) and one.is_file())
        files = sorted(one for one in found if not any(part.startswith(".") for part in one.relative_to(path).parts))
        if not files:
            raise TextError(
                f"{path}: no file of a kind that can be read ({', '.join(KINDS)}) in this folder or below it"
            )
        return files
    if not _kind(path):
        raise TextError(f"{path}: unknown kind of file; there are: {', '.join(KINDS)}")
    return [path]


def _from_files(files: list[Path]) -> Iterator[str | None]:
    for path in files:
        try:
            if (kind := _kind(path)) == ".parquet":
                yield from _from_parquet(path)
            elif kind == ".txt":
                with path.open("rb") as file:
                    yield from _from_txt(path, file)
            else:
                with lzma.open(path) if kind.endswith(".xz") else path.open("rb") as file:
                    yield from _from_jsonl(path, file)
        except (OSError, EOFError, lzma.LZMAError) as error:
            raise TextError(f"{path}: cannot be read, damaged or cut short ({error})") from error


def _from_txt(path: Path, file: Any) -> Iterator[str]:
    document = io.StringIO()
    for line in _lines(path, file):
        if line.strip() == SEPARATOR:
            yield document.getvalue()
            document = io.StringIO()
        else:
            document.write(line)
    yield document.getvalue()


def _from_jsonl(path: Path, file: Any) -> Iterator[str | None]:
    for number, line in enumerate(_lines(path, file), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TextError(f"{path}, line {number}: not JSON ({getattr(error, 'msg', error)})") from error
        if not isinstance(row, dict) or not isinstance(row.get("text", 0), str | None):
            there = ", ".join(map(repr, row)) if isinstance(row, dict) else type(row).__name__
            raise TextError(f"{path}, line {number}: needs a field 'text' that is a string; there is: {there}")
        yield row["text"]


def _from_parquet(path: Path) -> Iterator[str | None]:
    with needed("a parquet file"):
        from pyarrow import ArrowException, parquet, types

    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            if "text" not in schema.names or not _is_string(types, schema.field("text").type):
                raise TextError(f"{path}: needs a column 'text' of strings; there are: {', '.join(schema.names)}")
            for batch in file.iter_batches(columns=["text"]):
                yield from batch.column(0).to_pylist()
    except ArrowException as error:
        raise TextError(f"{path}: cannot be read, damaged or cut short ({error})") from error


def _is_string(types: Any, kind: Any) -> bool:
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _lines(path: Path, file: Any) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        try:
            yield line.decode().removeprefix(
                _MARK
            )  # files of Windows begin so, also within those put together of several
        except UnicodeDecodeError as error:
            if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise TextError(f"{path}: is UTF-16; convert the file to UTF-8") from error
            reason = f"byte {error.start + 1} of the line, 0x{line[error.start]:02x}, is not UTF-8"
            raise TextError(f"{path}, line {number}: {reason}; convert the file to UTF-8") from error


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
        f"HF_DATASETS_OFFLINE; without one, give a file ({', '.join(KINDS)}), or use {EMBEDDED!r}, which needs none"
    )


def _from_hub(name: str) -> Iterator[str | None]:
    with needed(f"text {name!r}, a data set of the hub,"):
        import datasets
    try:
        rows = datasets.load_dataset(name, split="train", streaming=True)
        first = next(iter(rows))
    except Exception as error:  # the library raises what its file systems and HTTP clients raise
        raise _not_had(name, error) from error
    if not isinstance(first.get("text", 0), str | None):
        raise TextError(f"text {name!r}: its rows have no field 'text'; there are: {', '.join(first)}")
    return (row["text"] for row in rows)
