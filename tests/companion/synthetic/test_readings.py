"""The runs of the readings: one switch at a time, and whole presets."""

from dataclasses import fields

import pytest

from mfrbook.chapters.synthetic import readings
from mfrbook.chapters.synthetic import runs as synthetic
from mfrbook.experiments.planned import plan
from mfrlib.data.synthetic import SyntheticSpec


def planned(**values):
    """Return the configs that a profile asks for: those that change a switch, and the presets'."""
    configs = [one.config for one in plan(["readings"], {"profile": "published", **values})]
    return [one for one in configs if one.d_in == 64], [one for one in configs if one.d_in == 256]


def same(config, other, but=()):
    return all(
        getattr(config, one.name) == getattr(other, one.name) for one in fields(SyntheticSpec) if one.name not in but
    )


@pytest.mark.parametrize("name", readings.PRESET_SEEDS)
def test_presets_have_the_papers_dimensions_and_their_own_data(name):
    preset = synthetic.configure({}, "published", name)
    found = [
        one for one in planned()[1] if same(one, preset, but=["support_rows"]) and one.optimizer == preset.optimizer
    ]
    alphas = {0.0, synthetic.ALPHA[name]}
    assert len(found) == readings.PRESET_SEEDS[name] * len(alphas)
    assert {one.alpha for one in found} == alphas
    assert {(one.k, one.n_features, one.matching, one.warmup) for one in found} == {
        (preset.k, preset.n_features, preset.matching, preset.warmup)
    }
    for one in found:
        assert one.support_rows * readings.BANK == (one.steps * one.batch_size if preset.support_rows else 0)


def test_the_default_presets_runs_are_those_of_the_main_notebooks():
    main = {one.key for one in plan(["synthetic"], {"profile": "published"}) if one.after is None}
    assert main < {one.key for one in plan(["readings"], {"profile": "published"})}


def test_as_many_seeds_as_asked_for():
    switches, presets = planned(n_seeds=2)
    assert {one.seed for one in switches} == {one.seed for one in presets} == {0, 1}
    assert len(switches) == 2 * len(readings.ROWS)
    assert len(presets) == 2 * sum(len({0.0, synthetic.ALPHA[name]}) for name in readings.PRESET_SEEDS)
