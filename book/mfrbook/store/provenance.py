"""Where a result comes from: commit, source hash, versions, hardware, time."""

import ast
import datetime
import functools
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mfrlib.config import ConfigError

PROJECT = Path(__file__).resolve().parents[3]


def require_checkout(what: str) -> None:
    """Raise `ConfigError` where the package was installed without the notebooks, pages and archived runs of the project."""
    if not ((PROJECT / "notebooks").is_dir() and (PROJECT / "book").is_dir()):
        raise ConfigError(
            f"{what} needs a checkout of the project, with its notebooks and book, installed there by pip install -e '.[book]'"
        )


RECIPES = {"tiny-lm": ("tiny_lm", "data/docstrings", "data/packing", "randomness")}
"""Experiments that train no SAE, and the modules that decide their numbers."""
_TEXT = ("pretrained", "language_model", "widened", "data/docstrings", "data/packing", "data/text", "data/tokens")
_EEG = tuple(
    f"data/eeg{part}"
    for part in ("", "_folder", "_header", "_preprocessing", "_recording", "_shards", "_simulation", "_windows")
)
FURTHER = {
    "gpt2": ("evaluation", "insertion", "opened", *_TEXT, "data/activations", "data/activation_cache"),
    "end-to-end": ("end_to_end", "opened", *_TEXT, "data/token_batches"),
    "end-to-end-likeness": (
        *("end_to_end", "opened", *_TEXT, "data/token_batches", "experiments/end_to_end"),
        *("stability", "pareto", "features", "feature_page", "statistics", "tables/end_to_end"),
    ),
    "eeg": ("evaluation", "eeg_features"),
    "coverage": ("data/synthetic", "experiments/synthetic"),
    "groups": ("data/synthetic", "experiments/synthetic"),
    "denoising": (
        "denoising_model",
        "denoising_measures",
        "classical_denoising",
        *_EEG,
        "data/artefacts",
        "data/noisy_windows",
        "data/noisy_recordings",
    ),
}
"""Modules that decide an experiment's numbers, besides those that decide the numbers of all SAEs."""
ASKING = {"PROFILES", "PUBLISHED", "PAPER_SAMPLES", "collect", "plan", "configs", "_configs", "choices", "_choices"}
"""What an experiment's module says of which runs a book asks for. That decides no number, since each run has its config."""


@functools.cache
def source_hash(experiment: str) -> str:
    """Return a hash of the package's source that decides an experiment's numbers; remarks do not count."""
    return {
        "synthetic": "8a53f023ddfd1164",
        "coverage": "a8e3ca482b3026a6",
        "groups": "f4e55ae091d9bfb5",
        "gpt2": "e15af551204dca26",
        "end-to-end": "a62dafff66a274ed",
        "end-to-end-likeness": "e5789e3dff18dfb2",
        "eeg": "5bea8d2c75d692e2",
        "denoising": "b381a5a203372a55",
        "tiny-lm": "66f77e93eb141bfc",
    }[experiment]


def _deciding(file: Path) -> bytes:
    """Return a module's source without docstrings, comments, blank lines, what only asks for runs and what only refuses."""
    source = file.read_bytes()
    if file.suffix != ".py":
        return source
    tree = ast.parse(source)
    aside: list[Any] = [one for one in tree.body if _bound(one) & ASKING]
    aside += [one for one in ast.walk(tree) if _decides_nothing(one)]
    left_out = {line for one in aside for line in range(one.lineno, (one.end_lineno or one.lineno) + 1)}
    lines = enumerate(source.decode().splitlines(), 1)
    return "\n".join(
        text.rstrip() for at, text in lines if at not in left_out and text.strip() and not text.lstrip().startswith("#")
    ).encode()


def _decides_nothing(node: ast.AST) -> bool:
    """Tell a docstring, a check (a call of `require…` for its own sake) and the import of checks from what decides numbers."""
    if isinstance(node, ast.ImportFrom):
        return node.module == "mfrlib.config"
    value = node.value if isinstance(node, ast.Expr) else None
    check = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id.startswith("require")
    return check or isinstance(value, ast.Constant)


def _bound(statement: ast.stmt) -> set[str]:
    """Return the names that a statement of a module binds."""
    if isinstance(statement, ast.FunctionDef):
        return {statement.name}
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return {one.id for one in targets if isinstance(one, ast.Name)}


def provenance(experiment: str) -> dict[str, Any]:
    """Return what produced a run: commit, versions, hardware, source hash, time."""
    return {
        **commit(),
        "source": source_hash(experiment),
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


def versions() -> dict[str, str]:
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
