"""An SAE on disk: `config.json` and `sae.safetensors`, which know each other, replaced in one step; nothing is unpickled."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor

from mfrlib.data.files import locked, save_tensors, sha256
from mfrlib.environment import absolute

FORMAT = 1
CONFIG, WEIGHTS = "config.json", "sae.safetensors"
_NEXT = ".next"  # a file on its way to its name
_KEYS = {"format", "kind", "settings", "sha256"}


class SAEFileError(ValueError):
    """A folder that holds no SAE to be opened; the message says why and what to do."""


class Stored(NamedTuple):
    """What a folder holds: the class of a stack, the arguments that make one, and its parameters by name."""

    kind: str
    settings: dict[str, Any]
    tensors: dict[str, Tensor]


def write(folder: str | os.PathLike[str], stored: Stored) -> None:
    """Write a folder, or replace the SAE in it; killed at any moment, it leaves the old one or the new one.

    Where several processes save at once, one of their SAEs stays, whole. Raises SAEFileError if the folder is a file, or
    holds something else of these names, such as a training run or a language model; OSError if it cannot be written.
    """
    folder = Path(absolute(folder))
    tensors = {name: value.detach().cpu().contiguous() for name, value in stored.tensors.items()}
    require_no_file(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(lock := folder / ".saving", 600):  # not a run's own lock, held while it trains
        try:
            _write(folder, stored, tensors)
        finally:
            with suppress(OSError):  # Windows deletes it at the end
                lock.unlink()


def _write(folder: Path, stored: Stored, tensors: dict[str, Tensor]) -> None:
    for name in (CONFIG, WEIGHTS):
        if (folder / name).exists() and json_object(folder / CONFIG).keys() != _KEYS:
            raise SAEFileError(f"folder {folder}: its {name} is of something else than an SAE; save to another folder")
    about = {"kind": stored.kind, "settings": stored.settings}
    weights, config = folder / f".{WEIGHTS}{_NEXT}", folder / f".{CONFIG}{_NEXT}"
    with suppress(SAEFileError, FileNotFoundError):  # where a saving was killed before its last move
        if (upcoming := json_object(config)) and upcoming.get("sha256") == sha256(folder / WEIGHTS):
            os.replace(config, folder / CONFIG)
    save_tensors(tensors, weights, {"mfrlib": json.dumps(about)})
    config.write_text(json.dumps({"format": FORMAT, **about, "sha256": sha256(weights)}, indent=1), encoding="utf-8")
    for one in (weights, config):
        with one.open("r+b") as file:  # Windows flushes only what it may write
            os.fsync(file.fileno())
    # Without weights there is no SAE, so that a new folder's come last. Where they replace others they come first:
    # `read` then finds their config still on its way.
    moves = [(config, folder / CONFIG), (weights, folder / WEIGHTS)]
    for source, target in moves[::-1] if (folder / WEIGHTS).exists() else moves:
        os.replace(source, target)


def read(folder: str | os.PathLike[str]) -> Stored:
    """Read what a folder holds.

    Raises SAEFileError if there is none, it is of another format or version, or a file is damaged or changed.
    """
    folder = Path(absolute(folder))
    _require_files(folder)
    config, found = json_object(folder / CONFIG), sha256(folder / WEIGHTS)
    if config.get("sha256") != found and (folder / f".{CONFIG}{_NEXT}").exists():
        upcoming = json_object(folder / f".{CONFIG}{_NEXT}")
        config = upcoming if upcoming.get("sha256") == found else config
    version = config.get("format")
    if version != FORMAT or not isinstance(config.get("kind"), str):
        raise SAEFileError(f"{folder / CONFIG}: format {version!r}, this mfrlib reads {FORMAT}; {_OTHER_VERSION}")
    if config.keys() != _KEYS:
        names = ", ".join(sorted(config.keys() ^ _KEYS))
        raise SAEFileError(f"{folder / CONFIG}: unknown or missing: {names}; save the SAE again with sae.save(folder)")
    if config["sha256"] != found:
        raise SAEFileError(f"{folder / WEIGHTS}: damaged, or of another SAE than {CONFIG}: not its SHA-256")
    try:
        with safe_open(folder / WEIGHTS, "pt") as file:
            noted = json.loads((file.metadata() or {}).get("mfrlib", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, ValueError, RecursionError) as error:
        raise SAEFileError(f"{folder / WEIGHTS}: damaged ({error})") from error
    if noted != {"kind": config["kind"], "settings": config["settings"]}:
        raise SAEFileError(f"{folder}: {WEIGHTS} was saved with another configuration; take both files as saved")
    return Stored(config["kind"], config["settings"], tensors)


_OTHER_VERSION = "an SAE saved by a later mfrlib needs that one, and what mfrlib did not save needs mfrlib.load_foreign"


def _require_files(folder: Path) -> None:
    require_folder(folder)
    if (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file():
        return
    missing = " and ".join(name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file())
    hint = "sae.save(folder) writes both"
    if (folder / "cfg.json").is_file():
        hint = "it looks like an SAE of another library: mfrlib.load_foreign(folder) opens SAELens's and sparsify's"
    elif (folder / "model.safetensors").is_file():
        hint = "mfrlib.hub.HubTopKSAE.from_pretrained(folder) opens what save_pretrained wrote"
    elif any(folder.glob("*.pt")) or any(folder.glob("*.bin")):
        hint = f"pickled files are not opened; {hint}"
    elif (folder / "0" / CONFIG).is_file():
        hint = f"its subfolders hold SAEs; {hint}"
    raise SAEFileError(f"folder {folder}: no {missing}; {hint}")


def require_no_file(folder: Path) -> None:
    """Refuse a path to write a folder to at which there is a file, or a link to nothing (SAEFileError)."""
    if os.path.lexists(folder) and not folder.is_dir():
        raise SAEFileError(
            f"folder {folder}: is a {'file' if folder.exists() else 'link to nothing'}; save to a folder"
        )


def require_folder(folder: Path) -> None:
    """Refuse a path at which there is no folder (SAEFileError)."""
    if not os.path.isdir(folder):
        there = "a file: give the folder that it lies in" if os.path.isfile(folder) else "there is no such folder"
        raise SAEFileError(f"folder {folder}: {there}")


def json_object(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds, nothing where there is no such file; SAEFileError if it holds something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise SAEFileError(f"{path}: no JSON ({error})") from error
    if not isinstance(found, dict):
        raise SAEFileError(f"{path}: must hold an object, given {type(found).__name__}")
    return found
