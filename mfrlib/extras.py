"""Packages that only some of the work needs, and the command that brings each."""

from collections.abc import Iterator
from contextlib import contextmanager

EXTRAS = {
    "lm": ("transformers", "transformer_lens", "datasets", "huggingface_hub", "tokenizers", "pyarrow"),
    "eeg": ("mne", "sklearn", "pywt", "pooch"),
    "dev": ("pytest", "playwright"),
}  # fmt: skip
"""Extras of the package, and the modules that they bring."""


@contextmanager
def needed(what: str) -> Iterator[None]:
    """Turn the error of an import that fails into one that says what needs the package, and how to install it.

    Raises
    ------
    ImportError
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
