import contextlib
import io
import json
import os
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from mfrbook.book import archive, plan, verify
from mfrbook.book.plan import Plan
from mfrbook.chapters.denoising import runs as denoising
from mfrbook.chapters.eeg import runs as eeg
from mfrbook.chapters.synthetic import runs as synthetic
from mfrbook.chapters.synthetic.questions import coverage
from mfrbook.command import cli
from mfrbook.store import runs
from mfrbook.store import store as stores
from mfrbook.store.provenance import PROJECT, provenance
from mfrbook.store.runs import Run
from mfrbook.store.store import Store
from mfrlib.config import ConfigError
from mfrlib.data import identity
from mfrlib.data.eeg.listing import identity_of
from tests.companion.book.test_plan import TINY, entry


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty archive, which the store reads first."""
    monkeypatch.setattr(stores, "PROJECT", tmp_path)
    monkeypatch.setattr(archive, "ARCHIVE", tmp_path / "book" / "results")
    archive.ARCHIVE.mkdir(parents=True)
    return archive.ARCHIVE


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """A plan of three runs, one of which turns out not to be needed, and its file."""
    first, about = entry()
    second, waiting = entry(first, reinit="window")
    third, other = entry(seed=1)
    planned = Plan("smoke", {}, {first: about, second: waiting, third: other}, {})
    file = tmp_path / "plan.json"
    file.write_text(json.dumps({**vars(planned), "runs": {key: vars(one) for key, one in planned.runs.items()}}))
    monkeypatch.setattr(plan, "load", lambda *_: (planned, file))
    return planned


@pytest.fixture
def computed_by(monkeypatch):
    """Return a function that has the queue call a function with the command's arguments, not a process of its own."""
    plain = subprocess.run

    def by(call):
        def run(line, **options):
            if line[1:3] != ["-m", "mfrbook"]:
                return plain(line, **options)
            with contextlib.redirect_stderr(io.StringIO()) as said:
                status = call(line[3:])
            return subprocess.CompletedProcess(line, status, "", said.getvalue())

        monkeypatch.setattr(subprocess, "run", run)

    return by


def tiny(**changes):
    return synthetic.configure({**TINY, "steps": 8, "batch_size": 64, **changes}, "smoke")


def damage(entry):
    """Leave a folder at a run's place that cannot be read."""
    entry.mkdir(parents=True)
    (entry / runs.CHECKSUMS).write_text("{}")


@pytest.mark.slow
def test_the_queue_archives_each_run_without_its_weights_and_is_then_empty(place, queue, computed_by, capsys):
    first, second, third = queue.runs
    assert archive.fill(jobs=2) == []
    assert {one.name for one in (place / "synthetic").iterdir()} == {first, third}
    assert not list(place.rglob("*.safetensors"))
    kept = Store(place).get("synthetic", synthetic.configure(queue.runs[first].config), "synthetic")
    assert kept.results["samples"] > 0
    assert f"[`{first}`](synthetic/{first}/run.json)" in (place / archive.INDEX).read_text()
    assert second not in (place / archive.INDEX).read_text()
    assert "3 of 3 runs are archived, or not needed" in capsys.readouterr().out
    computed_by(lambda _: pytest.fail("computed again"))
    assert archive.fill(jobs=2) == []


def test_a_run_that_fails_is_named_and_the_others_go_on(place, queue, computed_by, capsys):
    first, _, third = queue.runs
    computed_by(cli.main)
    broken = replace(queue.runs[third], config={**queue.runs[third].config, "optimizer": "none such"})
    queue.runs[third] = broken
    file = plan.load("smoke", {})[1]
    file.write_text(json.dumps({**vars(queue), "runs": {key: vars(one) for key, one in queue.runs.items()}}))
    damage(Store().cache / "synthetic" / third)
    with pytest.warns(UserWarning, match="is damaged"):
        assert archive.fill(jobs=1) == [third]
    said = capsys.readouterr().out
    assert "optimizer: must be one of" in said
    assert said.endswith("\n2 of 3 runs are archived, or not needed; 1 failed\n")
    assert (place / "synthetic" / first).is_dir()


def test_what_is_left_is_estimated_from_what_is_done(place, queue, computed_by, capsys):
    computed_by(cli.main)
    archive.fill(jobs=1)
    before, *_, last_but_one, last = [one for one in capsys.readouterr().out.splitlines() if " of 3 runs " in one]
    assert "0 of 3" in before
    assert "nobody knows yet for synthetic" in before
    assert last_but_one.endswith("; about 0 minutes")
    assert "about" not in last


def test_a_run_that_failed_is_counted_apart_and_what_it_left_behind_is_no_estimate(place, queue, computed_by, capsys):
    first = next(iter(queue.runs))
    damage(Store().cache / "synthetic" / first)
    computed_by(lambda _: 1)
    with pytest.warns(UserWarning, match="is damaged"):
        archive.fill(jobs=1)
    said = "0 of 3 runs are archived, or not needed; 1 failed; about 0 minutes, and what nobody knows yet for synthetic"
    assert said in capsys.readouterr().out.splitlines()


def test_a_run_that_is_not_where_it_should_be_has_failed(place, queue, computed_by, capsys):
    computed_by(lambda _: 0)
    assert archive.fill(jobs=1) == list(queue.runs)
    said = capsys.readouterr().out
    assert "archived\n" not in said
    assert said.count("computed, but not in the store") == 3


def test_an_archived_run_is_verified_to_the_bit(place):
    run = synthetic.run(tiny(), Store(), progress=False)
    archive.keep(Store().cache / "synthetic" / run.key, place)
    found = verify.verify(verify.find(run.key[:6]), progress=False)
    assert found.exact
    assert found.same
    assert found.report().endswith("the same, bit for bit")


def test_a_changed_result_is_found(place):
    run = synthetic.run(tiny(), Store(), progress=False)
    stored = verify.find(run.key)
    stored.results["loss"][0] *= 1.0001
    found = verify.verify(stored, progress=False)
    assert not found.same  # on the same machine every bit counts
    stored.provenance["versions"] = {"torch": "0.1"}
    elsewhere = verify.verify(stored, progress=False)
    assert elsewhere.same  # elsewhere there is a tolerance
    assert "torch 0.1 there, " in elsewhere.report()
    stored.results["loss"][0] *= 2
    elsewhere = verify.verify(stored, progress=False)
    assert not elsewhere.same
    assert " ! loss: off by" in elsewhere.report()


def test_what_a_run_is_worked_out_from_is_recomputed_as_well(place):
    """Wrong weights in the cache, of the run whose coverage is measured, say nothing of the archived run."""
    store, cache = Store(), os.environ["MFR_CACHE"]
    covered = coverage.run(tiny(), store, progress=False)
    whole = synthetic.run(tiny(), store, progress=False)
    whole.weights["weight"] = whole.weights["weight"].roll(1, -1).contiguous()
    runs.write(whole, store.cache / "synthetic" / whole.key)
    assert verify.verify(verify.find(covered.key), progress=False).exact
    assert os.environ["MFR_CACHE"] == cache


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Return where the archive's recordings and eye movements lie here, under other names."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "Subject00_1.edf").write_bytes(b"recorded")
    (tmp_path / "eyes.npz").write_bytes(b"recorded")
    monkeypatch.setitem(identity.ARCHIVED, "eegmat", identity_of(tmp_path / "mine").sha256)
    monkeypatch.setitem(identity.ARCHIVED, "eog_rem_256Hz", identity.of_file(tmp_path / "eyes.npz"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("data", "looked_in"), [("eegmat", "mine"), ("eegbci", None)])
def test_a_folder_is_found_again_and_what_is_fetched_is_fetched(data, looked_in, monkeypatch, elsewhere):
    (elsewhere / "fetched").mkdir()
    (elsewhere / "fetched" / "S001R01.edf").write_bytes(b"fetched")
    monkeypatch.setattr(eeg, "fetch_eegbci", lambda n: (elsewhere / "fetched", ["S001R01.edf"]))
    config = eeg.configure({"data": data, "subjects": 5}, "smoke")
    origin = provenance("eeg")
    archived = Run("eeg", runs.describe_config(config), eeg.data_id(config), {}, [], {}, {}, origin)
    asked = []
    monkeypatch.setattr(eeg, "run", lambda config, *_, **__: asked.append(config.data) or archived)
    assert verify.verify(archived).exact  # it is not here
    monkeypatch.setattr(eeg, "default_data", lambda _: str(elsewhere / (looked_in or "other")))
    assert verify.verify(archived).exact
    assert asked == [data, str(elsewhere / looked_in) if looked_in else data]


def test_eye_movements_are_found_again(monkeypatch, elsewhere):
    config = denoising.configure({"data": "eegmat", "eye_movements": "eog_rem_256Hz"}, "smoke")
    origin = provenance("denoising")
    archived = Run("denoising", runs.describe_config(config), denoising.data_id(config), {}, [], {}, {}, origin)
    monkeypatch.setattr(denoising, "default_eye_movements", lambda _: str(elsewhere / "eyes.npz"))
    asked = []
    monkeypatch.setattr(denoising, "run", lambda config, *_, **__: asked.append(config.eye_movements) or archived)
    verify.verify(archived)
    verify.verify(archived, {"eye_movements": "mine.npz"})
    assert asked == [str(elsewhere / "eyes.npz"), str(elsewhere / "mine.npz")]


def test_code_of_another_commit_may_round_otherwise(place):
    run = synthetic.run(tiny(), Store(), progress=False)
    run.results["loss"][0] *= 1.0001
    run.provenance["commit"] = "0" * 40
    found = verify.verify(run, progress=False)
    assert found.same
    assert found.others[0].startswith("code 0000000000")


def test_a_machine_of_other_vector_instructions_is_another(place):
    run = synthetic.run(tiny(), Store(), progress=False)
    run.results["loss"][0] *= 1.0001
    assert not verify.verify(run, progress=False).same
    here = run.provenance["machine"].pop("instructions")
    found = verify.verify(run, progress=False)
    assert found.same
    assert f"instructions unknown there, {here} here" in found.report()


def test_the_place_of_the_cache_is_put_back_whatever_happens(place, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError(os.environ["MFR_CACHE"])

    run = synthetic.run(tiny(), Store(), progress=False)
    monkeypatch.delenv("MFR_CACHE")
    monkeypatch.setattr(synthetic, "run", fail)
    with pytest.raises(RuntimeError):
        verify.verify(run)
    assert "MFR_CACHE" not in os.environ


@pytest.mark.parametrize("later", ["", "revival"])
def test_the_tolerance_is_what_seeds_spread(place, later):
    """Runs from before a field was there count as well."""
    store = Store()
    several = [synthetic.run(tiny(seed=seed), store, progress=False) for seed in range(3)]
    if later:
        config = {name: value for name, value in several[1].config.items() if name != later}
        runs.write(replace(several[1], config=config), store.finished("synthetic", several[1].key)[0])
    first = verify.find(several[0].key)
    first.results["loss"][0] *= 1.0001
    first.provenance["versions"] = {"torch": "0.1"}
    allowed = verify.verify(first, progress=False).differences["mmcs_input"][1]
    values = [one for run in several for one in run.results["mmcs_input"]]
    assert allowed == pytest.approx(verify.SPREADS * (sum((x - sum(values) / 6) ** 2 for x in values) / 5) ** 0.5)


@pytest.fixture
def compare(place, monkeypatch):
    """Compare a stored run of these results and arrays with what recomputing it is said to give, with other versions."""

    def compare(results, again, arrays=None, arrays_again=None):
        one, other = made(results, arrays), made(again, arrays_again)
        runs.write(one, Store().cache / "synthetic" / one.key)
        monkeypatch.setattr(synthetic, "run", lambda *_, **__: other)
        return verify.verify(one)

    return compare


def made(results, arrays=None, **changes):
    config = tiny(**changes)
    key = runs.run_key("synthetic", config, "synthetic")
    origin = provenance("synthetic") | {"versions": {"torch": "0.1"}}
    return Run("synthetic", runs.describe_config(config), "synthetic", results, [], arrays or {}, {}, origin, key)


MEASURES = [
    {"method": name, "snr": None, "rrmse": error, "bands": [0.1, 0.2]} for name, error in [("a", 1.0), ("b", 2.0)]
]


def with_last(**changes):
    return [MEASURES[0], {**MEASURES[1], **changes}]


def test_a_number_that_became_nan_differs(compare):
    found = compare({"l0": 3.0}, {"l0": float("nan")})
    assert not found.same
    assert found.report().splitlines()[1:] == [" ! l0: differs"]


def test_nested_results_are_compared_each_with_its_own_tolerance(compare):
    near = compare({"measures": MEASURES}, {"measures": with_last(rrmse=2.09)})
    assert near.same
    assert near.differences["measures/1/rrmse"] == pytest.approx((0.09, 0.1))
    far = compare({"measures": MEASURES, "l0": 3}, {"measures": with_last(rrmse=2.11), "l0": 3})
    assert not far.same
    assert far.report().splitlines()[1:] == [
        " ! measures/1/rrmse: off by 0.11, allowed 0.1",
        "   l0: off by 0, allowed 0.15",
        "   and 5 more within the tolerance",
    ]


@pytest.mark.parametrize(
    "rows",
    [
        with_last(rrmse=None),
        with_last(rrmse="2.0"),
        with_last(rrmse=float("nan")),
        with_last(bands=[0.1]),
        with_last(bands=[]),
        [MEASURES[0], {name: value for name, value in MEASURES[1].items() if name != "rrmse"}],
        MEASURES[:1],
        [],
    ],
)
def test_a_number_that_is_missing_or_of_another_shape_is_not_the_same(compare, rows):
    found = compare({"measures": MEASURES, "l0": 3}, {"measures": rows, "l0": 3})
    assert not found.same
    assert " ! measures" in found.report()


def test_nan_is_nan_and_neither_text_nor_results_that_were_not_archived_count(compare):
    nan = float("nan")
    found = compare({"loss": [1.0, nan], "token": "a"}, {"loss": [1.01, nan], "token": "b", "later": 3})
    assert found.same
    assert found.differences == {"loss": pytest.approx((0.01, 0.05))}


@pytest.mark.parametrize(
    ("again", "same"),
    [
        ([[2.1, 1.0]], True),  # features may change places
        ([[1.0, 2.2]], False),
        ([1.0, 2.0], False),
        ([[1.0, np.nan]], False),
    ],
)
def test_arrays_are_compared_by_shape_and_size(compare, again, same):
    found = compare({"l0": 3}, {"l0": 3}, {"rate": np.array([[1.0, 2.0]])}, {"rate": np.array(again)})
    assert found.same == same
    assert (" ! arrays/rate/" in found.report()) != same
    assert not compare({"l0": 3}, {"l0": 3}, {"rate": np.ones(2)}, {}).same


def test_where_nothing_is_compared_nothing_is_the_same(compare):
    found = compare({"events": []}, {"events": [], "later": 3})
    assert not found.same
    assert "nothing to compare" in found.report()


def test_the_tolerance_of_a_nested_result_is_what_seeds_spread_too(compare):
    for seed in (1, 2):
        run = made({"measures": with_last(rrmse=2.0 + seed)}, seed=seed)
        runs.write(run, Store().cache / "synthetic" / run.key)
    found = compare({"measures": MEASURES}, {"measures": with_last(rrmse=2.5)})
    assert found.differences["measures/1/rrmse"] == pytest.approx((0.5, verify.SPREADS))
    assert found.same


@pytest.mark.parametrize(("off", "same"), [(1e-9, True), (1e-4, False)])
def test_what_no_seed_changes_may_be_rounded(compare, off, same):
    for seed in (1, 2):
        run = made({"ce": 3.0}, seed=seed)
        runs.write(run, Store().cache / "synthetic" / run.key)
    assert compare({"ce": 3.0}, {"ce": 3.0 + off}).same == same


def test_a_run_that_is_not_there_is_refused(place):
    with pytest.raises(ConfigError, match=r"begins so, given 'feed'; book/results/index\.md lists"):
        verify.find("feed")
    key = synthetic.run(tiny(), Store(), progress=False).key
    with pytest.raises(ConfigError, match=f"begins so, given '{key}0'"):
        verify.find(f"{key}0")


def test_only_the_run_that_is_asked_for_is_read_and_no_weights(place, monkeypatch):
    one, other = (synthetic.run(tiny(seed=seed), Store(), progress=False).key for seed in range(2))
    (Store().cache / "synthetic" / other / "run.json").write_bytes(b"")  # a damaged run that is read warns
    monkeypatch.setattr("safetensors.torch.load_file", lambda *_: pytest.fail("loaded"))
    assert verify.find(one).key == one
    with pytest.warns(UserWarning, match="is damaged"), pytest.raises(ConfigError, match="no sound run"):
        verify.find(other)
    archive.keep(Store().cache / "synthetic" / one, place)  # twice the same is one
    assert verify.find(one).key == one


def test_a_key_that_several_runs_begin_with_is_refused_with_theirs(place):
    keys = sorted(synthetic.run(tiny(seed=seed), Store(), progress=False).key for seed in range(2))
    with pytest.raises(ConfigError, match=f"must name one run, given ''; there are {', '.join(keys)}"):
        verify.find("")


def test_the_archive_in_the_project_is_small_sound_and_of_today_s_behaviour():
    folder = PROJECT / "book" / "results"
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 40_000_000
    assert not list(folder.rglob("*.safetensors"))
    entries = [one.parent for one in folder.glob(f"*/*/{runs.CHECKSUMS}")]
    assert len(entries) >= 508
    assert [one.name for one in entries if runs.read(one).stale] == []  # reading checks every file
    listed = (folder / archive.INDEX).read_text()
    assert all(one.name in listed for one in entries)


def test_the_published_book_lacks_no_run(monkeypatch):
    monkeypatch.delenv("MFR_DATA", raising=False)  # an archive is found by whoever has no data
    planned = plan.make("published", {})
    missing = [f"{entry.experiment} {key}" for key, entry in planned.runs.items() if not planned.settled(key)]
    assert not missing


class TestAdopt:
    def run(self, store, **made):
        origin = {"commit": "c", "dirty": False, "source": "8a53f023ddfd1164"} | made
        run = Run("synthetic", runs.describe_config(tiny()), "synthetic", {"loss": [1.0, 2.0]}, provenance=origin)
        run.key = runs.run_key("synthetic", tiny(), "synthetic")
        run.provenance |= {"finished": "2026-01-01", "versions": {}, "machine": {}, "wall_seconds": 1.0}
        runs.write(run, store / "synthetic" / run.key)
        return run.key

    def test_a_run_of_another_checkout_is_marked_and_archived(self, tmp_path):
        key = self.run(tmp_path / "other")
        assert archive.adopt(tmp_path / "other", tmp_path / "root") == ([key], [])
        assert not Store(tmp_path / "root").get("synthetic", tiny(), "synthetic").stale
        assert archive.adopt(tmp_path / "other", tmp_path / "root") == ([], [])  # nothing is newer

    @pytest.mark.parametrize(("made", "why"), [({"dirty": True}, "uncommitted"), ({"source": "x"}, "not known")])
    def test_a_run_nobody_can_vouch_for_stays_out(self, tmp_path, made, why):
        self.run(tmp_path / "other", **made)
        taken, refused = archive.adopt(tmp_path / "other", tmp_path / "root")
        assert not taken
        assert why in refused[0]
