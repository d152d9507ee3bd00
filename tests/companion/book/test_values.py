"""Values as people write them on a command line, and what the command says of its parameters."""

import os
import subprocess
import sys

import pytest

from mfrbook.command import cli, console
from mfrbook.experiments.values import parse_pairs, parse_value
from mfrbook.store.provenance import PROJECT
from mfrlib import environment
from mfrlib.config import ConfigError, conforms


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (".5", 0.5), ("1.", 1.0), ("-.5", -0.5), ("1e-3", 1e-3), ("+3", 3), ("1_000", 1000), ("True", True), ("False", False),
        ("None", None), ("true", True), ("null", None), ("[.5, 1.]", [0.5, 1.0]), ("(12, 24)", [12, 24]), ("12,24", [12, 24]),
        ("'words'", "words"), ('"words"', "words"), ("['eye', 'line']", ["eye", "line"]), ("words", "words"), ("", ""),
        ("a/b", "a/b"), ("1+2j", "1+2j"), ("b'x'", "b'x'"), ("{1, 2}", "{1, 2}"), ("...", "..."), ("[1, ...]", "[1, ...]"),
        ("__import__('os')", "__import__('os')"), (" 3 ", 3), ("01", "01"), ("calibrate", "calibrate"),
    ],
)  # fmt: skip
def test_what_python_users_write(text, value):
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("2024", str, "2024"),
        ("1e3", str, "1e3"),
        ("True", str | None, "True"),
        ("None", str | None, None),
        ("'2024'", str, "2024"),
        ("[a]", str, "[a]"),
        ("[1]", str, "[1]"),
        (".5", float | str | None, 0.5),
        ("calibrate", float | str | None, "calibrate"),
        ("3", float, 3),
        ("3", list[int] | None, 3),
    ],
)
def test_a_string_is_what_was_written(text, hint, value):
    assert parse_pairs([f"x={text}"], {"x": hint}) == {"x": value}


def test_what_is_no_value_of_a_type_is_shown_as_it_was_read():
    assert parse_pairs(["x=true"], {"x": int}) == {"x": True}
    assert not conforms(True, int)
    with pytest.raises(ConfigError, match="x is given twice"):
        parse_pairs(["x=1", " x=2"])


def test_a_folder_called_2024_is_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for arguments in (["train", "eeg", "-p", "data=2024"], ["run", "eeg", "-p", "data=2024"]):
        assert cli.main([*arguments, "--profile", "smoke"]) == 1
        assert f"{tmp_path / '2024'}: cannot be read (No such file" in capsys.readouterr().err


def test_none_is_the_profile_s_own(capsys):
    assert cli.main(["train", "synthetic", "--profile", "smoke", "-p", "k=None", "-p", "steps=0"]) == 2
    assert capsys.readouterr().err == "mfr: steps: must be 1 or more, given 0\n"


class TestHelp:
    def test_the_version(self, capsys):
        import mfrlib

        with pytest.raises(SystemExit) as raised:
            cli.main(["--version"])
        assert raised.value.code == 0
        assert capsys.readouterr().out == f"mfrlib {mfrlib.__version__}\n"

    @pytest.mark.parametrize("experiment", ["synthetic", "eeg", "denoising", "tiny-lm", "groups"])
    def test_every_parameter_of_an_experiment_is_listed(self, experiment, capsys):
        from dataclasses import fields

        from mfrbook.chapters import registry
        from mfrbook.experiments.values import config_class

        assert cli.main(["train", experiment, "--profile", "smoke", "--help"]) == 0
        out = capsys.readouterr().out
        assert "usage: mfr train" in out
        for field in fields(config_class(registry.load(experiment))):
            assert f"\n  {field.name}: " in out, field.name
            assert field.metadata["help"] in out
        smoke = registry.load(experiment).configure({}, "smoke")
        assert f"\n  seed: int = {smoke.seed}\n" in out
        preset = "\n  preset: one of 'as-printed', 'as-released', 'first-edition', "
        assert (preset in out) == (experiment == "synthetic")

    def test_every_parameter_of_a_notebook_is_listed(self, capsys):
        assert cli.main(["run", "eeg", "-h"]) == 0
        out = capsys.readouterr().out
        assert "\n  data: str or null = null\n      folder of EDF files" in out
        assert "\n  readable_only: bool = false\n" in out

    @pytest.mark.parametrize("command", ["train", "run"])
    def test_without_a_name(self, command, capsys):
        assert cli.main([command, "--help"]) == 0
        assert f"usage: mfr {command}" in capsys.readouterr().out
        with pytest.raises(SystemExit) as raised:
            cli.main([command])
        assert raised.value.code == 2
        assert "are required: " in capsys.readouterr().err

    def test_of_what_is_not_there(self, capsys):
        assert cli.main(["train", "egg", "--help"]) == 2
        assert "unknown experiment 'egg'; did you mean 'eeg'?" in capsys.readouterr().err


class TestConsole:
    @pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii", "utf-8", "cp437", "shift_jis"])
    def test_no_encoding_stops_it(self, encoding):
        code = "from mfrbook.command import console; console.make_safe(); print('−1 to 3 – α ± µV José ☂ \\ud83d'); import sys; print('é', file=sys.stderr)"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, cwd=PROJECT,
            env={"PYTHONIOENCODING": encoding, "PATH": "", "PYTHONPATH": os.pathsep.join([str(PROJECT), str(PROJECT / "book")])},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        if encoding == "utf-8":
            assert done.stdout.decode() == "−1 to 3 – α ± µV José ☂ \\ud83d\n"
        else:
            assert done.stdout.startswith(b"-1 to 3 - alpha +/- uV Jos")
        if encoding in ("latin-1", "cp1252"):  # letters of names stay
            assert "José ? ?" in done.stdout.decode(encoding)
            assert done.stderr.decode(encoding).strip() == "é"

    def test_streams_that_are_closed(self, monkeypatch, capsys):
        """As a service and a window without a console have them."""
        monkeypatch.setattr(sys, "stdout", None)
        monkeypatch.setattr(sys, "stderr", None)
        console.make_safe()
        print("−1", file=sys.stderr)
        assert cli.main(["train", "synthetic", "-p", "decay=1"]) == 2

    def test_streams_that_others_put_in_their_place(self, monkeypatch):
        monkeypatch.setattr(sys, "stdout", object())
        console.make_safe()


class TestExtras:
    NEEDED = (
        ("from mfrlib.data.text.documents import documents; next(documents('a/b'))", "datasets", "mfrlib[lm]"),
        ("from mfrlib.data.eeg.recording import import_mne; import_mne()", "mne", "mfrlib[eeg]"),
        ("import mfrlib.denoising.estimator", "sklearn", "mfrlib[eeg]"),
        ("from mfrlib.language_models.language_model import LanguageModel; LanguageModel.load()", "transformers", "mfrlib[lm]"),
        ("from mfrlib.language_models.language_model import LanguageModel as L; L(None, None, 'x')", "transformer_lens", "mfrlib[lm]"),
    )  # fmt: skip

    @pytest.mark.slow
    def test_a_missing_package_is_named_with_the_command_that_brings_it(self):
        """Each in turn, in one process, since what takes the time is to import torch."""
        code = f"""
import sys
for code, module, _ in {self.NEEDED}:
    sys.modules[module] = None
    try:
        exec(code)
    except ImportError as error:
        print(error)
    else:
        print("nothing was raised")
    del sys.modules[module]
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=True)
        told = done.stdout.splitlines()
        assert len(told) == len(self.NEEDED)
        for (_, module, extra), said in zip(self.NEEDED, told, strict=True):
            assert f"pip install '{extra}'" in said, module

    @pytest.mark.parametrize(("command", "module"), [("run eeg", "nbformat"), ("claims", "yaml"), ("book", "nbformat")])
    @pytest.mark.slow
    def test_a_command_says_so_too(self, command, module):
        code = f"import sys; sys.modules[{module!r}] = None; from mfrbook.command.cli import main; sys.exit(main({command.split()!r}))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT)
        assert done.returncode == 1
        assert done.stderr.strip().splitlines()[-1] == (
            f"mfr: mfr {command.split()[0]} needs the package {module}: pip install ./book, in a checkout of the project"
        )

    def test_every_package_of_the_extras_is_declared(self):
        import tomllib

        declared = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert set(environment.EXTRAS) <= set(declared["optional-dependencies"])

    def test_outside_a_checkout_a_command_says_what_it_needs(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr("mfrbook.store.provenance.PROJECT", tmp_path)
        for command in (["run", "eeg"], ["claims"], ["book"], ["plan"], ["archive"], ["pdf"], ["verify", "0"]):
            assert cli.main(command) == 2
            assert f"mfr {command[0]} needs a checkout of the project" in capsys.readouterr().err


@pytest.mark.slow
def test_windows_has_no_fcntl_and_no_numbers_of_users():
    code = (
        "import os, sys\nsys.modules['fcntl'] = None; del os.getuid, os.geteuid\n"
        "from mfrbook.command.cli import main\n"
        "sys.exit(main(['train', 'synthetic', '--profile', 'smoke', '-p', 'steps=2', '-p', 'batch_size=32']))"
    )
    there = os.environ | {"USERNAME": "someone"}  # which Windows sets
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, env=there)
    assert done.returncode == 0, done.stderr
