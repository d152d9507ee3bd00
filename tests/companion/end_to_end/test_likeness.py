import json
import shutil

import numpy as np
import pytest

from mfrbook.chapters.end_to_end import comparison, looking, measures, stability, tables
from mfrbook.chapters.end_to_end import likeness as end_to_end_likeness
from mfrbook.chapters.end_to_end import plan as end_to_end
from mfrbook.chapters.end_to_end.sizes import narrow as end_to_end_narrow
from mfrbook.chapters.end_to_end.sizes import rates, smollm2
from mfrbook.experiments.evidence import Evidence, Untested
from mfrbook.experiments.planned import flat
from mfrbook.store.runs import write
from mfrbook.store.store import MissingRunsError, Store
from mfrlib.config import ConfigError
from mfrlib.environment import cache_folder

pytest.importorskip("transformer_lens")


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Two seeds of every objective, and their comparison, in a store that the module's tests share."""
    place = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MFR_CACHE", str(place))
        seeds = end_to_end.collect("smoke", 2)
        compared = end_to_end_likeness.collect("smoke", 2).own
    return place, seeds, compared


def test_it_says_what_the_weights_say(stores):
    _, seeds, compared = stores
    picked = stability.comparable(seeds)
    places = ("e2e", picked["e2e"]), ("local", picked["local"])
    found = stability.across_seeds(seeds, *places, above_chance=True)
    np.testing.assert_array_equal(compared.arrays["e2e local"], found)
    assert not compared.weights
    assert compared.results["page"].count("<h2>") == 3
    assert 3 <= compared.results["page"].count("<details>") <= 3 * looking.EXAMPLES["n_features"]
    assert set(compared.results["only"]) == {"e2e", "local"}


def test_without_runs_with_the_penalty_the_rest_is_compared(stores):
    _, seeds, _ = stores
    fewer = [{name: run for name, run in runs.items() if name != "e2e-mfr"} for runs in seeds]
    whole, found = (comparison.likeness(runs).set_index(["features of", "compared"]) for runs in (seeds, fewer))
    assert len(found) == 6
    assert found["MMCS"].equals(whole.loc[found.index, "MMCS"])


@pytest.mark.parametrize(("archived", "runs"), [(1, None), (2, 6)])
def test_of_the_archive_s_runs_two_seeds_are_needed(monkeypatch, archived, runs):
    monkeypatch.setattr(smollm2, "ARCHIVED_SEEDS", archived)
    real = end_to_end_likeness.asked("published", None, {}).others.get("smollm2")
    assert (real and len(real.config.runs)) == runs


def test_the_archive_s_other_runs_are_compared_by_name():
    others = end_to_end_likeness.asked("published", None, {}).others
    planned = {
        name: [one.key for one in flat(module.asked("published", None, {}))]
        for name, module in end_to_end_likeness.OTHERS.items()
    }
    assert {name: [*one.config.runs] for name, one in others.items()} == planned
    assert len({key for keys in planned.values() for key in keys}) == sum(map(len, planned.values()))
    assert end_to_end_likeness.asked("smoke", None, {}).others == {}
    with pytest.raises(ConfigError, match=r"'notebook'.*'equal'"):
        end_to_end_likeness.configure({"of": "narrow"}, "smoke")


@pytest.mark.parametrize("name", end_to_end_likeness.OTHERS)
def test_archived_runs_are_found_by_what_they_say_of_themselves(name):
    run = end_to_end_likeness.collect("published", trains=False).others[name]
    again = end_to_end_likeness.configure(run.config)
    assert (again.of, list(again.runs)) == (name, run.config["runs"])


def test_of_runs_that_no_page_shows_only_the_likeness_is_kept(stores, tmp_path, monkeypatch):
    place, _, compared = stores
    shutil.copytree(place, tmp_path, ignore=shutil.ignore_patterns("end-to-end-likeness"), dirs_exist_ok=True)
    monkeypatch.setenv("MFR_CACHE", str(tmp_path))
    monkeypatch.setattr(rates, "suited", lambda times, n_seeds: end_to_end.asked("smoke", 2, {}))
    found = end_to_end_likeness.compared("published", 2, {}, of="tuned").run(Store())
    assert set(found.results) == {"likeness", "samples"}
    assert found.results["likeness"] == compared.results["likeness"]
    assert set(found.arrays) == set(compared.arrays)
    table = tables.stabilities({"some": found, "others": compared})
    assert [*table["runs"]] == ["some"] * 4 + ["others"] * 4
    _, seeds, _ = stores
    alive = tables.alive_compared("some", seeds)
    assert alive["some_alive_e2e"] == np.mean([runs["e2e"].results["alive"][0] for runs in seeds])
    assert tables.stability_values({"some": found})["some_e2e_across_seeds"] == found.results["likeness"][1]["MMCS"]


def test_its_key_follows_the_runs_it_compares(stores):
    _, _, compared = stores
    again = end_to_end_likeness.configure({"n_seeds": 2}, "smoke")
    assert list(again.runs) == compared.config["runs"]
    other = end_to_end_likeness.configure({"n_seeds": 2, "values": json.dumps({"steps": 5})}, "smoke")
    assert not set(other.runs) & set(again.runs)


@pytest.mark.parametrize(
    ("values", "n_features"),
    [
        ({"n_features": 160}, 40),
        ({"n_features": 160, "local_sparsity": [1.0], "alpha": 0.5}, 40),
        ({"n_features": 160, "sae": "topk", "k": [4, 24]}, 40),
        ({"n_features": 160, "sae": "topk", "k": [4, 48]}, 48),  # no fewer than are active
        ({"n_features": 64}, 36),
    ],
)
def test_there_are_a_quarter_of_the_features(values, n_features):
    found, compared = end_to_end_narrow.asked("smoke", 2, values)
    assert {one.config.n_features for one in flat(found)} == {n_features}
    assert compared.config.runs == tuple(one.key for one in flat(found))
    same = end_to_end.asked("smoke", 2, {**values, "n_features": n_features})
    assert [one.key for one in flat(same)] == list(compared.config.runs), "all other parameters are kept"


def test_both_sizes_answer_to_the_same_question(stores):
    _, seeds, compared = stores
    local, mine = (compared.arrays[f"{name} {name}"] for name in ("local", "e2e"))
    three = type(compared)(
        **{**vars(compared), "arrays": {k: np.full((3, 3), v[0, 1]) for k, v in compared.arrays.items()}}
    )
    narrow = end_to_end_narrow.Narrower(seeds, three)
    evidence = Evidence("smoke", {})
    evidence.runs |= {
        "end-to-end-likeness": end_to_end_likeness.Likeness(three, {"smollm2": three}),
        "end-to-end-narrow": narrow,
    }
    assert measures.e2e_instability(evidence) == measures.e2e_narrow_instability(evidence)
    assert measures.e2e_instability(evidence) == measures.real_e2e_instability(evidence)
    assert measures.e2e_instability(evidence) == pytest.approx([local[0, 1] - mine[0, 1]] * 3)


def test_an_archive_without_weights_answers_and_without_it_says_what_is_missing(stores, monkeypatch, tmp_path):
    place, seeds, compared = stores
    monkeypatch.setenv("MFR_CACHE", str(tmp_path / "archive"))
    for run in [compared, *(run for runs in seeds for run in runs.values())]:
        run.weights = {}
        write(run, cache_folder() / run.experiment / run.key)
    evidence = Evidence("smoke", {"n_seeds": 2})
    with pytest.raises(Untested, match="three seeds"):
        measures.e2e_instability(evidence)
    with pytest.raises(Untested, match="in the published archive alone"):
        measures.real_e2e_instability(evidence)
    assert end_to_end_likeness.collect("smoke", 2, trains=False).own.key == compared.key
    monkeypatch.setenv("MFR_CACHE", str(tmp_path / "empty"))
    with pytest.raises(MissingRunsError, match=f"end-to-end-likeness {compared.key}"):
        end_to_end_likeness.collect("smoke", 2, trains=False)
    assert Store(place).get(
        "end-to-end-likeness", end_to_end_likeness.configure({"n_seeds": 2}, "smoke"), compared.data_id
    )
