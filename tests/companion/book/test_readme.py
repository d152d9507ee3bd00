"""Every command and every line of Python in the README runs (`make` by continuous integration, `mfr run` in test_run_page)."""

import doctest
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mfrbook.store.provenance import PROJECT

README = (PROJECT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.S)
    for line in block.splitlines()
    if line.strip()
]


def test_readme_names_the_two_commands():
    assert [command for command in COMMANDS if command.startswith("make")] == ["make book", "make test"]


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in COMMANDS if not re.match(r"make|\S+/mfr run", command)])
def test_command_runs(command, built, tmp_path):
    words = shlex.split(command)
    words[0] = str(Path(sys.executable).with_name(Path(words[0]).name))
    words = [word.replace("runs/mine.ipynb", str(tmp_path / "mine.ipynb")) for word in words]
    environment = os.environ | {"MFR_CACHE": built.store}
    done = subprocess.run(words, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]


def test_python_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len([line for line in block.splitlines() if line.strip()]) <= 11
    exec(compile(block, "README.md", "exec"), {})
    assert "tensor" in capsys.readouterr().out
    assert {one.name for one in tmp_path.iterdir()} == {"my-sae"}


@pytest.mark.parametrize("link", sorted(set(re.findall(r'(?:\]\(|src="|srcset=")([^)":]+)["\)]', README))))
def test_linked_file_exists(link):
    assert (PROJECT / link).exists()


@pytest.mark.parametrize(
    "file",
    [one for top in ("mfrlib", "book/mfrbook") for one in (PROJECT / top).rglob("*.py") if ">>> " in one.read_text()],
    ids=lambda one: one.stem,
)
def test_the_examples_in_docstrings_come_out_as_they_say(file):
    module = importlib.import_module(".".join(file.relative_to(PROJECT).with_suffix("").parts).removeprefix("book."))
    failed, tried = doctest.testmod(module)
    assert tried
    assert not failed
