"""Sources of text: documents from this machine's documentation, from files, or streamed from the Hugging Face hub."""

import hashlib
import io
import json
import lzma
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from mfrlib.config import require
from mfrlib.data.text import docstrings

Split = Literal["train", "held-out"]
EMBEDDED = "python-docs"
KINDS = (".txt", ".jsonl", ".jsonl.xz", ".parquet")
SEPARATOR = "<|endoftext|>"
_HELD_OUT = 0.1


class TextError(ValueError):
    """Text that cannot be had or read; the message names the place, the reason and what to do."""


def text_id(text: str) -> str:
    """Return the declared name of a text, without opening it: that of the file or folder, no path of this machine."""
    return text if text == EMBEDDED or not _local(text) else Path(text).name


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
    return (one for one in found if one.strip() and _split_of(one) == split)


def find(text: str) -> Path | None:
    """Return the file or folder that a text's name means, None for a data set of the hub.

    Raises
    ------
    TextError
        If it looks like a path and is not there.
    """
    below = Path(os.environ.get("MFR_DATA") or "/nowhere") / "text" / text
    for path in (Path(text).expanduser(), below):
        if text and path.exists():
            return path
    if _local(text):
        hint = "" if os.environ.get("MFR_DATA") else "; MFR_DATA, below which text/ is looked in too, is not set"
        raise TextError(f"text {text!r}: there is no such file or folder{hint}")
    return None


def _local(text: str) -> bool:
    """Tell whether a name is that of a file rather than of a data set."""
    return Path(text).exists() or text.endswith(KINDS) or not re.fullmatch(r"[\w.-]+/[\w.-]+", text)


def _split_of(document: str) -> Split:
    digest = hashlib.sha256(document.encode(errors="surrogatepass")).digest()
    return "held-out" if int.from_bytes(digest[:8]) / 2**64 < _HELD_OUT else "train"


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(one for one in path.rglob("*") if one.name.endswith(KINDS) and one.is_file())
        if not files:
            raise TextError(
                f"{path}: no file of a kind that can be read ({', '.join(KINDS)}) in this folder or below it"
            )
        return files
    if not path.name.endswith(KINDS):
        raise TextError(f"{path}: unknown kind of file; there are: {', '.join(KINDS)}")
    return [path]


def _from_files(files: list[Path]) -> Iterator[str]:
    for path in files:
        try:
            if path.name.endswith(".parquet"):
                yield from _from_parquet(path)
            elif path.name.endswith(".txt"):
                with path.open("rb") as file:
                    yield from _from_txt(path, file)
            else:
                with lzma.open(path) if path.name.endswith(".xz") else path.open("rb") as file:
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


def _from_jsonl(path: Path, file: Any) -> Iterator[str]:
    for number, line in enumerate(_lines(path, file), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise TextError(f"{path}, line {number}: not JSON ({error.msg})") from error
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            there = ", ".join(map(repr, row)) if isinstance(row, dict) else type(row).__name__
            raise TextError(f"{path}, line {number}: needs a field 'text' that is a string; there is: {there}")
        yield row["text"]


def _from_parquet(path: Path) -> Iterator[str]:
    from pyarrow import ArrowException, parquet, types

    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            if "text" not in schema.names or not _is_string(types, schema.field("text").type):
                raise TextError(f"{path}: needs a column 'text' of strings; there are: {', '.join(schema.names)}")
            for batch in file.iter_batches(columns=["text"]):
                yield from (row for row in batch.column(0).to_pylist() if row is not None)
    except ArrowException as error:
        raise TextError(f"{path}: cannot be read, damaged or cut short ({error})") from error


def _is_string(types: Any, kind: Any) -> bool:
    return types.is_string(kind) or types.is_large_string(kind)


def _lines(path: Path, file: Any) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            reason = f"byte {error.start + 1} of the line, 0x{line[error.start]:02x}, is not UTF-8"
            raise TextError(f"{path}, line {number}: {reason}; convert the file to UTF-8") from error


def _from_hub(name: str) -> Iterator[str]:
    try:
        import datasets

        rows = datasets.load_dataset(name, split="train", streaming=True)
        first = next(iter(rows))
    except ImportError as error:
        raise TextError(f"text {name!r}: streaming needs the extra `lm` (pip install 'mfrlib[lm]')") from error
    except Exception as error:  # the library raises what its file systems and HTTP clients raise
        raise TextError(
            f"text {name!r} is not a file here and cannot be had from the Hugging Face hub "
            f"({type(error).__name__}: {str(error).splitlines()[0]}). With a network, unset HF_HUB_OFFLINE and "
            f"HF_DATASETS_OFFLINE; without one, give a file ({', '.join(KINDS)}), or use {EMBEDDED!r}, which needs none"
        ) from error
    if not isinstance(first.get("text"), str):
        raise TextError(f"text {name!r}: its rows have no field 'text'; there are: {', '.join(first)}")
    return (row["text"] for row in rows)
