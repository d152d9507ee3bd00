"""What the name of a language model means: one in the package, a folder, a GGUF file, or one on the Hugging Face hub."""

import hashlib
import os
import re
from pathlib import Path

from mfrlib.data.identity import Identity, identify, of_file, of_files
from mfrlib.environment import absolute, data_folder, needed
from mfrlib.language_models.pretrained import gguf

EMBEDDED = "tiny-lm"


class LanguageModelError(ValueError):
    """A language model that cannot be had or used; the message says why and what to do."""


def declared_id(name: str) -> str:
    """Return the declared name of a model, without opening it: that of the folder, no path of this machine."""
    return Path(name).name if _is_path(name) else name


_DECIDES = re.compile(
    r"(config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab)\.json|"
    r".*\.safetensors(\.index\.json)?|merges\.txt|(tokenizer|spiece)\.model"
)
"""Files of a model's folder that decide what it computes, and of which text."""


def identity_of(name: str) -> Identity:
    """Return the identity of a model: one on the hub by its revision, a folder by the bytes of what decides its numbers.

    Raises LanguageModelError if there is no such model, or the folder holds none.
    """
    folder = find(name)
    if folder is None:
        return Identity(f"{name}@{_revision(name)[:12]}")
    check_folder(folder)
    if (source := gguf.origin(folder)) is not None:
        return identify(source)
    files = [one for one in folder.iterdir() if _DECIDES.fullmatch(one.name) and one.is_file()]
    try:
        return identify(of_files({one.name: _hash(one) for one in files}))
    except OSError as error:
        raise LanguageModelError(f"model folder {folder} cannot be read ({error})") from error


def _hash(path: Path) -> str:
    """Return the SHA-256 of a file; that a line of text may end as on Windows does not count."""
    if path.suffix in (".json", ".txt"):
        return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
    return of_file(path)


def _revision(name: str) -> str:
    """Return the commit of a model of the hub that would be loaded: the hub's or, where it is not asked, that in its cache."""
    with needed("a language model"):
        from huggingface_hub import hf_hub_download
    try:
        return Path(hf_hub_download(name, "config.json")).parent.name  # …/snapshots/COMMIT/config.json
    except Exception as error:  # as in `load_pretrained`
        raise LanguageModelError(why(name, None, error)) from error


def find(name: str) -> Path | None:
    """Return the folder that a model's name means, that of a GGUF file converted on first use; None for a name on the hub.

    Raises LanguageModelError if it looks like a path and is not there, the GGUF file cannot be read, or `smollm2` has
    not been fetched.
    """
    if name == EMBEDDED:
        return Path(__file__).parent / "tiny_lm"
    data = data_folder()
    for folder in (Path(absolute(name)), *([data / "models" / name] if data else [])) if name else ():
        if os.path.isdir(folder):
            return folder
        if folder.suffix.lower() == ".gguf" and os.path.isfile(folder):
            try:
                return gguf.converted(folder)
            except gguf.GGUFError as error:
                raise LanguageModelError(f"model {name!r}: {error}") from error
    if name == gguf.SMOLLM2:
        if (folder := gguf.smollm2_folder()).is_dir():
            return folder
        raise LanguageModelError(f"model {name!r}: it is not on this machine yet; `mfr model {name}` fetches it once")
    if _is_path(name):
        raise LanguageModelError(f"model {name!r}: there is no such folder, and it is no name on the Hugging Face hub")
    return None


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds no model, or only pickled weights (LanguageModelError)."""
    if not (folder / "config.json").is_file():
        raise LanguageModelError(f"model folder {folder}: there is no config.json")
    if not list(folder.glob("*.safetensors")):
        pickled = [one.name for kind in ("*.bin", "*.pt", "*.pth", "*.ckpt") for one in sorted(folder.glob(kind))]
        there = f"only pickled ones, which are not opened: {', '.join(pickled)}" if pickled else "nor any other"
        raise LanguageModelError(
            f"model folder {folder}: there are no safetensors weights, {there}. "
            "Save the model again with save_pretrained(folder), which writes model.safetensors"
        )


def _is_path(name: str) -> bool:
    return os.path.isdir(name) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", name)


def why(name: str, folder: Path | None, error: Exception) -> str:
    """Say why a model cannot be loaded, and what to do."""
    reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if folder is not None:
        return f"model folder {folder} cannot be loaded ({reason})"
    return (
        f"model {name!r} is not a folder here and cannot be had from the Hugging Face hub ({reason}). With a network, "
        "unset HF_HUB_OFFLINE; without one, give a folder with config.json, *.safetensors and the tokenizer's files, "
        f"or use {EMBEDDED!r}, which needs none"
    )
