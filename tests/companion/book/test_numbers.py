"""Whole numbers that make no sense are refused in a sentence of ours, before anything is computed, wherever one may be given."""

import argparse
from typing import get_type_hints

import pytest

from mfrbook.book import archive, notebooks
from mfrbook.chapters import registry
from mfrbook.command import cli
from mfrbook.command.numbers import positive_integer
from mfrbook.experiments.values import config_class
from mfrlib.config import ConfigError, conforms

COMMANDS = next(one for one in cli.parser()._actions if one.dest == "command").choices
NUMBERS = [
    (name, one.option_strings[-1])
    for name, command in COMMANDS.items()
    for one in command._actions
    if one.type is positive_integer
]


def test_every_number_among_the_options_is_read_by_one_function():
    for command in COMMANDS.values():
        for action in command._actions:
            assert action.type not in (int, float), action.option_strings
    assert ("archive", "--jobs") in NUMBERS


@pytest.mark.parametrize(("command", "option"), NUMBERS)
@pytest.mark.parametrize("given", ["-1", "0", "x", "2.5", "1e3", "", "∞"])
def test_what_is_no_number_of_things_is_refused(command, option, given, capsys, monkeypatch):
    monkeypatch.setattr(archive, "fill", lambda **_: pytest.fail("computed"))
    with pytest.raises(SystemExit) as raised:
        cli.main([command, option, given])
    assert raised.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"mfr {command}: error: argument {option}: must be a whole number, 1 or more, given {given!r}"


def test_numbers_are_read():
    assert [positive_integer(one) for one in ("1", " 12 ", "1000000")] == [1, 12, 1_000_000]
    with pytest.raises(argparse.ArgumentTypeError):
        positive_integer("-0")


@pytest.mark.parametrize("name", registry.NAMES)
def test_no_experiment_takes_a_number_that_makes_no_sense(name):
    experiment = registry.load(name)
    tried = [field for field, hint in get_type_hints(config_class(experiment)).items() if conforms(-7, hint)]
    tried = [field for field in tried if not field.endswith("_snr")]  # in dB
    assert "seed" in tried
    for field in tried:
        with pytest.raises(ConfigError):
            experiment.configure({field: -7}, profile="smoke")


@pytest.mark.parametrize("name", notebooks.NAMES)
def test_no_notebook_takes_a_number_that_makes_no_sense(name):
    notebook = notebooks.find(name)
    for parameter in notebooks.parameters(notebook).values():
        for value in (-7, [-7], []):
            if conforms(value, parameter.hint) and "snr" not in parameter.name:
                with pytest.raises(ConfigError) as raised:
                    notebooks.check(notebook, {parameter.name: value, "profile": "smoke"})
                named = parameter.name.removeprefix("local_")
                assert f"{named}: " in str(raised.value)


@pytest.mark.parametrize(
    "values", [{"k": [8]}, {"sae": "relu", "k": [8]}, {"sae": "topk", "sparsity": [2.0]}, {"sae": "topk", "local_sparsity": [2.0]}]
)  # fmt: skip
def test_what_the_chosen_saes_do_not_have_is_refused(values):
    *_, name = values
    with pytest.raises(ConfigError, match=rf"^{name}: is for sae="):
        notebooks.check(notebooks.find("end-to-end"), {**values, "profile": "smoke"})
