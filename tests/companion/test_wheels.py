"""What is installed: the wheel of the library holds the library alone, that of the companion the companion."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", params=["mfrlib", "mfrbook"])
def wheel(request, tmp_path_factory):
    """Return a package's name, the files of its folder, and its wheel: names of its files, and its entry points."""
    package, place = request.param, tmp_path_factory.mktemp(request.param)
    root = PROJECT if package == "mfrlib" else PROJECT / "book"
    shutil.copytree(root / package, place / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (root / name).is_file():
            shutil.copy(root / name, place)
    (place / "tests").mkdir()  # what lies beside a package stays out
    (place / "tests" / "__init__.py").touch()
    line = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*line, "--wheel-dir", place, place], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    (path,) = place.glob("*.whl")
    with ZipFile(path) as archive:
        names = set(archive.namelist())
        (entry,) = [name for name in names if name.endswith("entry_points.txt")] or [None]
        files = {path.relative_to(place).as_posix() for path in (place / package).rglob("*") if path.is_file()}
        return package, files, names, archive.read(entry).decode() if entry else ""


@pytest.mark.slow
def test_a_wheel_holds_its_package_and_no_more(wheel):
    package, files, names, _ = wheel
    assert {name for name in names if ".dist-info/" not in name} == files
    assert all(name.startswith(f"{package}/") for name in files)


@pytest.mark.slow
def test_only_the_companion_brings_the_command(wheel):
    package, _, _, entry_points = wheel
    assert ("mfr = mfrbook.command.cli:main" in entry_points) == (package == "mfrbook")


@pytest.mark.slow
def test_what_is_no_python_is_there_too(wheel):
    package, _, names, _ = wheel
    expected = {
        "mfrlib": {
            *(f"mfrlib/models/kernels/native{one}.c" for one in ("", "_search", "_match")),
            "mfrlib/py.typed",
            "mfrlib/language_models/pretrained/tiny_lm/model.safetensors",
        },
        "mfrbook": {"mfrbook/ledger/claims.yaml", "mfrbook/probes/text.jsonl"},
    }
    assert expected[package] <= names
