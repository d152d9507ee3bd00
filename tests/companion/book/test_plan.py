"""The plan of a book: the runs it asks for, and the markers that repeat what the store says."""

import ast
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace

import nbformat
import pytest

from mfrbook.book import notebooks, plan
from mfrbook.book.edition import Edition
from mfrbook.book.plan import Entry, Plan
from mfrbook.chapters import registry
from mfrbook.chapters.eeg import readings as eeg_readings
from mfrbook.chapters.eeg.opponents import regularisers
from mfrbook.chapters.end_to_end import likeness as end_to_end_likeness
from mfrbook.chapters.end_to_end import plan as end_to_end
from mfrbook.chapters.end_to_end.sizes import narrow as end_to_end_narrow
from mfrbook.chapters.synthetic import printed
from mfrbook.chapters.synthetic import runs as synthetic
from mfrbook.chapters.synthetic.questions import released
from mfrbook.store import runs, store
from mfrbook.store.behaviour import marks
from mfrbook.store.provenance import PROJECT
from mfrbook.store.runs import describe_config, run_key
from mfrbook.store.store import MissingRunsError, Store
from mfrlib.config import ConfigError
from mfrlib.environment import cache_folder

TINY = {"n_input_features": 24, "d_in": 12, "n_groups": 4, "n_active": 3, "n_features": 16, "k": 3, "steps": 6,
        "batch_size": 32, "device": "cpu"}  # fmt: skip


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        plan._write(tmp_path / "marker.json", {"entry": object()})
    assert list(tmp_path.iterdir()) == []


def entry(after=None, **values):
    config = synthetic.configure({**TINY, **values}, "smoke")
    about = Entry("synthetic", describe_config(config), "", "synthetic", after, marks("synthetic"))
    return run_key("synthetic", config, "synthetic"), about


@pytest.fixture
def pair():
    """Return a plan of a baseline and of the run that waits for it; no threshold is reached in six steps of nine."""
    first, about = entry(reinit_threshold=9.0)
    second, waiting = entry(first, reinit_threshold=9.0, reinit="window")
    return Plan("smoke", {}, {first: about, second: waiting}, {}), first, second


def read(path):
    return json.loads(path.read_text())


def asked_by(notebook):
    """Return the names under which a notebook's cells ask for runs."""
    cells = nbformat.read(notebooks.find(notebook), as_version=4).cells
    tree = ast.parse("\n".join(cell.source for cell in cells if cell.cell_type == "code"))
    froms = [one for one in ast.walk(tree) if isinstance(one, ast.ImportFrom)]
    modules = {alias.asname or alias.name: f"{one.module}.{alias.name}" for one in froms for alias in one.names}
    calls = [one.func for one in ast.walk(tree) if isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute)]
    names = {f"mfrbook.chapters.{module}": name for name, module in registry.PLANS.items()}
    return {names[modules[one.value.id]] for one in calls if one.attr in ("collect", "cosines")}


class TestWhatIsPlanned:
    @pytest.fixture(scope="class")
    @staticmethod
    def smoke():
        return plan.make("smoke", {})

    def test_every_notebook_of_the_book_is_in_it(self, smoke):
        assert list(smoke.notebooks) == list(notebooks.NAMES)
        assert set(smoke.runs) == {key for about in smoke.notebooks.values() for key in about["runs"]}

    def test_a_run_comes_after_the_one_it_waits_for_and_has_its_key(self, smoke):
        before = set()
        for key, one in smoke.runs.items():
            module = registry.load(one.experiment)
            assert run_key(one.experiment, module.configure(one.config, "smoke"), one.data_id) == key
            assert one.after is None or one.after in before
            before.add(key)

    @pytest.mark.parametrize("name", notebooks.NAMES)
    def test_it_names_what_its_cells_ask_for(self, name):
        declared = nbformat.read(notebooks.find(name), as_version=4).metadata["mfr"]["asks"]
        assert asked_by(name) == set(declared)

    @pytest.mark.parametrize(
        ("name", "parts"),
        [
            ("synthetic-training", [synthetic, released, printed]),
            ("end-to-end", [end_to_end, end_to_end_likeness, end_to_end_narrow]),
        ],
    )
    def test_it_is_what_the_store_is_asked_for(self, smoke, name, parts):
        asked = set()
        for part in parts:
            with pytest.raises(MissingRunsError) as raised:
                part.collect("smoke", trains=False)
            asked |= {line.split()[5] for line in str(raised.value).splitlines()}
        # Runs that wait for another are asked for once that one is there.
        assert asked == {key for key in smoke.notebooks[name]["runs"] if smoke.runs[key].after is None}

    def test_another_seed_adds_runs_and_takes_none_away(self, smoke):
        more = plan.make("smoke", {"n_seeds": 3})
        # What compares runs is another run where there are more of them.
        kept = {key: one for key, one in smoke.runs.items() if one.experiment != "end-to-end-likeness"}
        assert kept.items() < more.runs.items()
        added = [key for key in more.notebooks["eeg"]["runs"] if key not in smoke.runs]
        assert len(added) == 4 + 1 + 2 * len(eeg_readings.ROWS) + len(regularisers.ROWS)
        assert {more.runs[key].config["seed"] for key in added} == {2}

    def test_what_a_notebook_would_refuse_is_refused(self):
        with pytest.raises(ConfigError, match="unknown parameter 'n_seed'; did you mean 'n_seeds'"):
            plan.make("smoke", {"n_seed": 3})
        with pytest.raises(ConfigError, match="n_seeds: must be 1 or more, given 0"):
            plan.make("smoke", {"n_seeds": 0})


class TestComputing:
    def test_a_run_is_computed_once_and_marked(self, pair, monkeypatch):
        planned, first, _ = pair
        planned.compute(first)
        marked = read(planned.marker(first))
        assert marked["entry"] == str(cache_folder() / "synthetic" / first)
        assert marked["reached"] is False
        monkeypatch.setattr(synthetic, "train", lambda *_, **__: pytest.fail("trained again"))
        assert planned.compute(first) == marked

    def test_where_the_threshold_is_not_reached_the_second_run_is_not_needed(self, pair, monkeypatch):
        planned, first, second = pair
        planned.compute(first)
        monkeypatch.setattr(synthetic, "train", lambda *_, **__: pytest.fail("trained, though it is not needed"))
        assert planned.compute(second)["entry"] == read(planned.marker(first))["entry"]
        assert planned.marker(second).exists()
        assert [run.key for run in Store(cache_folder()).all()] == [first]

    def test_where_it_is_reached_it_is_computed(self):
        first, about = entry(reinit_threshold=0.1, reinit_limit=1000)
        second, waiting = entry(first, reinit_threshold=0.1, reinit_limit=1000, reinit="window")
        planned = Plan("smoke", {}, {first: about, second: waiting}, {})
        planned.compute(first)
        assert planned.settled(second) is None
        planned.compute(second)
        assert {run.key for run in Store(cache_folder()).all()} == {first, second}

    def test_a_run_that_waits_for_another_is_not_computed_before_it(self, pair):
        planned, first, second = pair
        with pytest.raises(RuntimeError, match=f"{first} reaches the threshold: compute that run first"):
            planned.compute(second)
        assert not list(Store(cache_folder()).all())

    def test_a_run_that_fails_leaves_no_marker(self):
        key, about = entry(learning_rate=1e38, steps=20)
        planned = Plan("smoke", {}, {key: about}, {})
        with pytest.raises(RuntimeError, match="not finite"):
            planned.compute(key)
        assert not planned.marker(key).exists()

    def test_a_key_that_is_not_in_the_plan_is_refused(self, pair):
        with pytest.raises(ConfigError, match="unknown run of the plan '0123'; "):
            pair[0].compute("0123")

    def test_a_plan_that_other_source_made_is_refused(self, pair):
        planned, first, _ = pair
        about = planned.runs[first]
        moved = replace(planned, runs={"0" * 16: about})
        with pytest.raises(RuntimeError, match="plan again"):
            moved.compute("0" * 16)
        assert not moved.marker("0" * 16).exists()


class TestMarkers:
    def test_what_was_computed_without_the_plan_counts_as_done(self, pair):
        planned, first, second = pair
        run = synthetic.run(synthetic.configure(planned.runs[first].config, "smoke"), progress=False)
        assert run.key == first
        assert planned.synchronise() == 0
        sums = cache_folder() / "synthetic" / first / runs.CHECKSUMS
        # Their time is the run's: notebooks that were executed since are not out of date.
        assert planned.marker(first).stat().st_mtime_ns == sums.stat().st_mtime_ns
        assert planned.marker(second).exists()

    def test_what_is_archived_counts_as_done(self, pair, tmp_path, monkeypatch):
        planned, first, _ = pair
        planned.compute(first)
        planned.marker(first).unlink()
        monkeypatch.setattr(store, "PROJECT", tmp_path)
        (tmp_path / "book").mkdir()
        os.rename(cache_folder(), tmp_path / "book" / "results")
        planned.synchronise()
        assert read(planned.marker(first))["entry"] == str(tmp_path / "book" / "results" / "synthetic" / first)

    @pytest.mark.parametrize("name", ["run.json", "metrics.jsonl.gz", "weights.safetensors", runs.CHECKSUMS])
    def test_a_damaged_run_loses_its_marker_and_those_that_wait_for_it_theirs(self, pair, name):
        planned, first, second = pair
        planned.compute(first)
        planned.compute(second)
        file = cache_folder() / "synthetic" / first / name
        file.write_bytes(file.read_bytes()[:-1] + b"?")
        with pytest.warns(UserWarning, match="is damaged"):
            planned.synchronise()
        assert not planned.marker(first).exists()
        assert not planned.marker(second).exists()
        with pytest.warns(UserWarning, match="is damaged"):
            planned.compute(first)
        assert planned.synchronise() == 0
        assert planned.marker(second).exists()

    def test_files_that_the_marker_knows_are_not_read_again(self, pair, monkeypatch):
        planned, first, _ = pair
        planned.compute(first)
        monkeypatch.setattr(plan, "read", lambda *_, **__: pytest.fail("read again"))
        time = planned.marker(first).stat().st_mtime_ns
        planned.synchronise()
        assert planned.marker(first).stat().st_mtime_ns == time

    def test_stale_runs_are_counted_and_computed_again_only_when_asked(self, pair):
        planned, first, second = pair
        planned.compute(first)
        made_by = read(planned.marker(first))["behaviour"]
        newer = replace(
            planned, runs={key: replace(one, behaviour={"behaviour": 99}) for key, one in planned.runs.items()}
        )
        assert newer.synchronise() == 2
        assert newer.marker(first).exists()
        assert newer.synchronise(renew=True) == 0
        assert not newer.marker(first).exists()
        assert not newer.marker(second).exists()
        assert planned.compute(first, renew=True)["behaviour"] == made_by

    def test_a_marker_that_is_no_marker_is_put_right(self, pair):
        planned, first, _ = pair
        marked = planned.compute(first)
        for content in ("", "[]", "{}", "null", '{"entry": 3}'):
            planned.marker(first).write_text(content)
            planned.synchronise()
            assert read(planned.marker(first)) == marked

    def test_a_notebook_is_done_if_it_was_executed_from_the_same_and_its_runs_are_there(
        self, pair, tmp_path, monkeypatch
    ):
        planned, first, _ = pair
        planned = replace(planned, notebooks={"tiny": {"inputs": "abc", "runs": [first]}})
        monkeypatch.setattr(plan, "PROJECT", tmp_path)
        pages = Edition(tmp_path, "smoke").executed
        pages.mkdir(parents=True)
        executed, marker = pages / "tiny.ipynb", pages / "tiny.done"
        for inputs, done in (("abc", True), ("abd", False), ("abc", True)):
            executed.write_text(json.dumps({"metadata": {"mfr": {"inputs": inputs}}}))
            planned.compute(first)
            planned.synchronise()
            assert marker.exists() == done
        assert marker.stat().st_mtime_ns == executed.stat().st_mtime_ns
        executed.write_text('{"metadata": {"mfr": {"inp')  # cut off while it was written
        planned.synchronise()
        assert not marker.exists()
        executed.write_text(json.dumps({"metadata": {"mfr": {"inputs": "abc"}}}))
        (cache_folder() / "synthetic" / first / "metrics.jsonl.gz").write_bytes(b"")
        with pytest.warns(UserWarning, match="is damaged"):
            planned.synchronise()
        assert not marker.exists()


class TestTheFile:
    @pytest.fixture
    def tiny(self, monkeypatch, tmp_path):
        """One notebook is the whole book."""
        monkeypatch.setattr(notebooks, "NAMES", ("eeg",))
        monkeypatch.setattr(notebooks, "FOLDER", tmp_path)
        source = PROJECT / "notebooks" / "eeg.ipynb"
        (tmp_path / "eeg.ipynb").write_text(source.read_text())
        made = asdict(plan.make("smoke", {"n_seeds": 1}))
        calls = []

        def process(line, **_):
            calls.append(line)
            return subprocess.CompletedProcess(line, 0, json.dumps(made | {"notebooks": {"eeg": now()}}), "")

        def now():
            return {"inputs": notebooks.inputs(tmp_path / "eeg.ipynb", {"n_seeds": 1, "profile": "smoke"}), "runs": []}

        monkeypatch.setattr(plan.subprocess, "run", process)
        return calls

    def test_it_is_made_again_only_where_something_changed(self, tiny, tmp_path):
        first, path = plan.load("smoke", {"n_seeds": 1})
        assert tiny == [[sys.executable, "-m", "mfrbook", "plan", "--profile", "smoke", "-p", "n_seeds=1"]]
        assert plan.load("smoke", {"n_seeds": 1}) == (first, path)
        assert len(tiny) == 1
        assert plan.from_file(path) == first
        with (tmp_path / "eeg.ipynb").open("a") as file:
            file.write("\n")
        plan.load("smoke", {"n_seeds": 1})
        assert len(tiny) == 2

    def test_an_error_in_making_it_is_handed_on(self):
        with pytest.raises(ConfigError, match=r"^unknown parameter 'n_seed'; did you mean 'n_seeds'"):
            plan.load("smoke", {"n_seed": 3})
        assert not list(cache_folder().glob("plans/*"))
