from dataclasses import asdict

import pytest

from mfrbook.chapters.gpt2 import plan as gpt2_plan
from mfrbook.chapters.gpt2 import released, tables
from mfrbook.experiments.planned import flat


@pytest.mark.parametrize("name", released.ROWS)
def test_every_row_differs_in_what_it_says_and_in_nothing_else(name):
    base, config = (asdict(released.config_of(one, 0)) for one in ("baseline", name))
    assert {field for field in base if base[field] != config[field]} == set(released.ROWS[name])


def test_the_first_two_rows_are_the_chapter_s_own_runs():
    main, own = (one.asked("published", None, {})[0] for one in (gpt2_plan, released))
    assert [own[name].key for name in ("baseline", "penalty")] == [main[name].key for name in ("baseline", "penalty")]


def test_other_profiles_ask_for_none():
    assert list(flat(released.asked("quick", None, {}))) == []


def test_the_archive_s_runs_say_how_much_each_row_changes_the_loss():
    seeds = released.collect("published", trains=False)
    assert len(seeds) == released.ARCHIVED_SEEDS
    found = tables.changes(seeds, released.COMPARED, "toy_")
    ratios = [[run.results["loss"][0] for run in (one["as released"], one["baseline"])] for one in seeds]
    expected = sum(100 * (after / before - 1) for after, before in ratios) / len(ratios)
    assert found["toy_as_released_smallest_k_change"] == pytest.approx(expected)
    shown = tables.controls(seeds, released.COMPARED).set_index("run")
    assert {name: shown["compared with"][name] for name in released.COMPARED} == dict(released.COMPARED)
