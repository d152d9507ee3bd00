"""GGUF files as folders of safetensors: the dequantised weights are the model."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from mfrlib.data.files import locked
from mfrlib.data.identity import of_file
from mfrlib.environment import cache_folder

SMOLLM2 = "smollm2"
_ORIGIN = "gguf.json"
"""In a converted folder: the SHA-256 of the GGUF file, and of each file written."""
NEEDED = 900_000_000
"""Bytes that converting SmolLM2 takes for a while; 540 MB of them stay."""


class GGUFError(ValueError):
    """A GGUF file that cannot be had or converted; the message says why and what to do."""


def smollm2_folder() -> Path:
    """Return the folder of the user's cache where `mfr model smollm2` puts the model."""
    return cache_folder() / "models" / SMOLLM2


def converted(file: Path) -> Path:
    """Return the folder of a GGUF file in the user's cache, converted on first use and where the folder was changed since.

    Raises GGUFError as `convert`.
    """
    sha256 = of_file(file)
    folder = cache_folder() / "models" / f"gguf-{sha256[:16]}"
    return folder if origin(folder) == sha256 else convert(file, folder)


def origin(folder: Path) -> str | None:
    """Return the SHA-256 of the GGUF file that a folder was converted from; None for another, or one changed since."""
    try:
        found = json.loads((folder / _ORIGIN).read_text(encoding="utf-8"))
        same = all(of_file(folder / name) == sha256 for name, sha256 in found["files"].items())
        return str(found["gguf"]) if same else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def convert(file: Path, folder: Path) -> Path:
    """Write the model and tokenizer of a GGUF file as a folder in the format of transformers, float32, in one step.

    Of processes that want the same folder one writes it, and the others wait. Raises GGUFError if transformers cannot read
    the file, such as one of another architecture or quantisation, or the disk is full.
    """
    require_space(folder)
    parent, lock = folder.parent, folder.with_name(f".{folder.name}.lock")
    parent.mkdir(parents=True, exist_ok=True)
    with locked(lock, -1), tempfile.TemporaryDirectory(dir=parent, prefix=".writing-") as name:
        if origin(folder) == of_file(file):
            return folder
        try:
            model, tokenizer = _read(file)
        except ImportError as error:
            raise GGUFError(f"GGUF files need the extra lm: pip install 'mfrlib[lm]' ({error})") from error
        except Exception as error:  # what transformers and gguf raise of files they do not know
            reason = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
            raise GGUFError(
                f"{file} cannot be read as a GGUF model ({reason}); give another file, or a folder of safetensors"
            ) from error
        new = Path(name) / "model"
        model.save_pretrained(new)
        tokenizer.save_pretrained(new)
        files = {one.name: of_file(one) for one in sorted(new.iterdir())}
        (new / _ORIGIN).write_text(json.dumps({"gguf": of_file(file), "files": files}, indent=1), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        return new.rename(folder)


def _read(file: Path) -> tuple[Any, Any]:
    """Return model and tokenizer. A model marked as quantised cannot be saved, so its weights move to one that is not."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True, "trust_remote_code": False}
    quantised = AutoModelForCausalLM.from_pretrained(str(file.parent), dtype=torch.float32, **where)
    settings = quantised.config.to_dict()
    settings.pop("quantization_config", None)
    model = type(quantised)(type(quantised.config)(**settings))
    model.load_state_dict(quantised.state_dict())
    return model, AutoTokenizer.from_pretrained(str(file.parent), **where)


def require_space(folder: Path) -> None:
    """Refuse a place without room for a model that is written there (GGUFError)."""
    existing = next(one for one in (folder, *folder.parents) if one.exists())
    if (free := shutil.disk_usage(existing).free) < NEEDED:
        raise GGUFError(
            f"{existing} has {free / 1e6:.0f} MB left, and the model takes {NEEDED / 1e6:.0f} MB while it is written. "
            "Make room, or name another folder with MFR_CACHE"
        )
