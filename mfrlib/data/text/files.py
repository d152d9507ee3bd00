"""Files of text: which there are, and the documents in them."""

import io
import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mfrlib.environment import needed

KINDS = (".txt", ".jsonl", ".jsonl.xz", ".parquet")
SEPARATOR = "<|endoftext|>"
MARK = "\ufeff"


class TextError(ValueError):
    """Text that cannot be had or read; the message names the place, the reason and what to do."""


def kind_of(path: Path) -> str:
    """Return which of `KINDS` a file's name says it is, in any case, or nothing."""
    return next((kind for kind in KINDS if path.name.lower().endswith(kind)), "")


def text_files(path: Path) -> list[Path]:
    """Return the files of text that a path means: itself, or those in its folder and below, sorted; hidden ones are left out. TextError if there is none."""
    if path.is_dir():
        found = (one for one in path.rglob("*") if kind_of(one) and one.is_file())
        files = sorted(one for one in found if not any(part.startswith(".") for part in one.relative_to(path).parts))
        if not files:
            raise TextError(f"{path}: no file that can be read ({', '.join(KINDS)}) in this folder or below it")
        return files
    if not kind_of(path):
        raise TextError(f"{path}: unknown kind of file; there are: {', '.join(KINDS)}")
    if not path.is_file():
        raise TextError(f"{path}: not a regular file; write the text to one")
    return [path]


def read_files(files: list[Path]) -> Iterator[str | None]:
    """Yield the documents of files, one at a time; None for a row without text. TextError names a line that is damaged or no text."""
    for path in files:
        try:
            if (kind := kind_of(path)) == ".parquet":
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
        if not isinstance(row, dict) or not isinstance(text := without_nan(row.get("text", 0)), str | None):
            there = ", ".join(map(repr, row)) if isinstance(row, dict) else type(row).__name__
            kind = f", with {type(row['text']).__name__} in 'text'" if isinstance(row, dict) and "text" in row else ""
            raise TextError(f"{path}, line {number}: needs a field 'text' that is a string; there is: {there}{kind}")
        yield text


def without_nan(text: Any) -> Any:
    """Return None for NaN, which is how tables write that a text is missing, and anything else as it is."""
    return None if isinstance(text, float) and text != text else text


def _from_parquet(path: Path) -> Iterator[str | None]:
    with needed("a parquet file"):
        from pyarrow import ArrowException, large_binary, large_string, parquet, types

    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            if "text" not in schema.names or not _is_string(types, schema.field("text").type):
                there = ", ".join(f"{one.name} ({one.type})" for one in schema)
                raise TextError(f"{path}: needs a column 'text' of strings; there are: {there}")
            for batch in file.iter_batches(columns=["text"]):
                column = batch.column(0)
                column = column.dictionary_decode() if types.is_dictionary(column.type) else column
                kept = column.cast(large_string()).cast(large_binary()).to_pylist()
                yield from (one if one is None else one.decode("utf-8", "surrogatepass") for one in kept)
    except (ArrowException, UnicodeDecodeError) as error:
        raise TextError(f"{path}: cannot be read, damaged or cut short ({error})") from error


def _is_string(types: Any, kind: Any) -> bool:
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return types.is_null(kind) or types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _lines(path: Path, file: Any) -> Iterator[str]:
    # Bytes have three ends of lines, that of old Macs among them; strings would have more.
    for number, line in enumerate((line for part in file for line in part.splitlines(keepends=True)), 1):
        try:
            # Files of Windows begin with a mark, also within those put together of several.
            if number == 1 and (line.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in line[:2]):
                raise TextError(f"{path}: is UTF-16 or UTF-32; convert the file to UTF-8")
            yield line.decode("utf-8", "surrogatepass").lstrip(MARK)
        except UnicodeDecodeError as error:
            reason = f"byte {error.start + 1} of the line, 0x{line[error.start]:02x}, is not UTF-8"
            raise TextError(f"{path}, line {number}: {reason}; convert the file to UTF-8") from error
