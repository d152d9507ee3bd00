"""An environment of its own for each peer, below `.bench/`, as `peers.toml` pins it, with the same torch as ours."""

import functools
import json
import os
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
FOLDER = PROJECT / ".bench"


class Absent(RuntimeError):
    """A peer cannot be had here; the message says why."""


@functools.cache
def peers() -> dict[str, dict[str, Any]]:
    """Return what `peers.toml` says."""
    return tomllib.loads(Path(__file__).with_name("peers.toml").read_text())


def interpreter(package: str | None) -> Path:
    """Return the Python that a contestant runs in, its environment made if need be.

    Raises
    ------
    Absent
        If the package or what it needs cannot be installed.
    """
    if package is None:
        return Path(sys.executable)
    folder, done = FOLDER / package, FOLDER / package / "installed.json"
    python = folder / "bin" / "python"
    torch = f"torch=={version('torch').split('+')[0]}"
    wanted = {"torch": torch, **peers()[package]}
    if done.is_file() and json.loads(done.read_text()) == wanted:
        return python
    print(f"installing {package} {wanted['version']} into {folder}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    pinned = f"{package}=={wanted['version']}"
    try:
        run(sys.executable, "-m", "venv", folder)
        (folder / "constraint.txt").write_text(torch)
        install = [python, "-m", "pip", "install", "--quiet", "--constraint", folder / "constraint.txt"]
        run(*install, torch)
        if "requirements" in wanted:
            run(*install, *wanted["requirements"])
            run(*install, "--no-deps", pinned)
        else:
            run(*install, pinned, *wanted.get("also", ()))
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        raise Absent(f"{pinned} cannot be installed: {(said or ['no reason given'])[-1][:300]}") from None
    done.write_text(json.dumps(wanted))
    return python


def run(*command: str | Path) -> None:
    """Run a command that must succeed."""
    alone = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    subprocess.run([*map(str, command)], check=True, capture_output=True, text=True, timeout=1800, env=alone)
