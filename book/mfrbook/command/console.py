"""Output to consoles and pipes that are not UTF-8: signs are written in ASCII instead of stopping the program."""

import codecs
import os
import sys
import unicodedata
from functools import partial
from typing import Any

_SIGNS = {"–": "-", "—": "-", "−": "-", "±": "+/-", "×": "x", "·": "*", "µ": "u", "≤": "<=", "≥": ">=", "≈": "~", "→": "->",
          "…": "...", "‘": "'", "’": "'", "“": '"', "”": '"', "§": "par. ", "α": "alpha", "β": "beta", "λ": "lambda", "Δ": "Delta",
          "∞": "inf", "\u00a0": " ", "\u202f": " "}  # fmt: skip


def make_safe() -> None:
    """Let standard output and standard error take every character, whatever encoding they have, and be there if closed."""
    sys.stdout, sys.stderr = (one or open(os.devnull, "w", encoding="utf-8") for one in (sys.stdout, sys.stderr))  # noqa: SIM115 - for the process's life
    for stream in (sys.stdout, sys.stderr):
        if not hasattr(stream, "reconfigure"):
            continue
        encoding = codecs.lookup(stream.encoding).name
        if encoding == "utf-8":
            stream.reconfigure(errors="backslashreplace")  # half a surrogate pair, such as in a file's name
            continue
        codecs.register_error(f"mfr-{encoding}", partial(_written, encoding=encoding))
        stream.reconfigure(encoding="ascii", errors=f"mfr-{encoding}")


def _written(error: Any, encoding: str) -> tuple[bytes, int]:
    """Write letters as the console has them, since names of files hold some, and signs in ASCII, which every console has."""
    return b"".join(_one(letter, encoding) for letter in error.object[error.start : error.end]), error.end


def _one(letter: str, encoding: str) -> bytes:
    if letter in _SIGNS:
        return _SIGNS[letter].encode()
    if letter.isalpha():
        return letter.encode(encoding, "replace")
    return unicodedata.normalize("NFKD", letter).encode("ascii", "ignore") or b"?"
