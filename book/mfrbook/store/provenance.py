"""Where a result comes from: commit, behaviour, versions, hardware, time."""

import datetime
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mfrbook.store.behaviour import marks
from mfrlib.config import ConfigError

PROJECT = Path(__file__).resolve().parents[3]


def require_checkout(what: str) -> None:
    """Raise `ConfigError` where the package was installed without the notebooks, pages and archived runs of the project."""
    if not ((PROJECT / "notebooks").is_dir() and (PROJECT / "book").is_dir()):
        raise ConfigError(
            f"{what} needs a checkout of the project, with its notebooks and book, installed there by make setup"
        )


def provenance(experiment: str) -> dict[str, Any]:
    """Return what produced a run: commit, behaviour, versions, hardware, time."""
    return {
        **commit(),
        **marks(experiment),
        "versions": versions(),
        "machine": machine(),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def commit() -> dict[str, Any]:
    """Return the project's git commit and whether files differ from it, the archive aside; None outside a checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(PROJECT), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--", ".", ":!book/results")),
        }
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


def commit_text(made: Mapping[str, Any]) -> str:
    """Put into words what `commit` found."""
    return (made["commit"] or "none")[:10] + (" + changes" if made["dirty"] else "")


def in_words(recorded: Mapping[str, object] | None) -> str:
    """Put what was recorded, such as its versions, on one line."""
    return ", ".join(f"{name} {what}" for name, what in recorded.items()) if recorded else "not recorded"


@cache
def versions() -> Mapping[str, str]:
    """Return the versions of Python and of the packages that decide numbers."""
    found = {"python": platform.python_version()}
    for name in (
        "mfrlib",
        "torch",
        "numpy",
        "scipy",
        "mne",
        "scikit-learn",
        "PyWavelets",
        "transformers",
        "transformer-lens",
        "tokenizers",
    ):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Return the hardware: processor, its vector instructions, cores used, and the GPU where there is one.

    The name of a virtual machine's processor may hide its kind; rounding hangs on the instructions.
    """
    import torch

    names = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    found: dict[str, Any] = {
        "processor": names[0] if names else platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
