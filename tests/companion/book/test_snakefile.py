"""Scaling out by Snakemake: what it plans is counted by dry runs; slowly, a notebook's runs are computed for real."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from mfrbook.book.notebooks import NAMES
from mfrbook.book.plan import make
from mfrbook.store.provenance import PROJECT
from mfrbook.store.runs import METRICS

pytest.importorskip("snakemake", reason="needs Snakemake: pip install ./book")

COUNT = re.compile(r"^(\w+) +(\d+)$", re.M)
PAGE = "_build/smoke/book/executed/synthetic-similarity.done"  # the notebook that the tests execute alone
ONE, TWO = ("n_seeds=1",), ("n_seeds=2",)


def jobs(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """Return how many jobs of each rule Snakemake says there were."""
    told = done.stdout + done.stderr
    assert done.returncode == 0, told[-6000:]
    if "Nothing to be done" in told:
        return {}
    return {rule: int(count) for rule, count in COUNT.findall(told.split("Job stats:")[1].split("total")[0])}


class Copy:
    """A copy of the project with a store of its own and without real data, made unless it is there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, folder / ".runs"
        built = (".*", "_build", "executed", "runs", "__pycache__", "*.egg-info")
        if not folder.exists():
            shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns(*built))
        self.variables = {name: value for name, value in os.environ.items() if name != "MFR_DATA"} | {
            "PYTHONPATH": os.pathsep.join([str(folder), str(folder / "book")]), "MFR_CACHE": str(self.store), "MPLBACKEND": "agg",
        }  # fmt: skip

    def call(self, *line: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Call Snakemake as the book says, but for what follows."""
        whole = [sys.executable, *python, "-m", "snakemake", "--snakefile", "book/Snakefile", *line]
        return subprocess.run(whole, cwd=self.folder, env=self.variables, capture_output=True, text=True)

    def run(self, *line: str, config: tuple[str, ...] = ()) -> dict[str, int]:
        """Run what is out of date and return how many jobs of each rule there were."""
        return jobs(self.call(*line, "--cores", "2", "--config", "profile=smoke", *config))

    def plan(self, *line: str, config: tuple[str, ...] = ()) -> dict[str, int]:
        """Return how many jobs of each rule would be run."""
        return self.run(*line, "--dry-run", config=config)

    def entries(self) -> set[Path]:
        """Return the runs in the store."""
        return {path.parent for path in self.store.glob("*/[!.]*/checksums.json")}


def config_of(entry: Path) -> dict[str, object]:
    return json.loads((entry / "run.json").read_text())["config"]


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return Copy(tmp_path_factory.mktemp("clean") / "project")


@pytest.fixture(scope="module")
def everything():
    """Return the number of jobs from a clean state."""
    return {"run": len(make("smoke", {}).runs), "notebook": len(NAMES), "pages": 1, "book": 1}


@pytest.mark.slow
def test_from_a_clean_state_everything_is_to_be_done_wherever_it_is_called(clean, everything, tmp_path):
    """With the profile for SLURM, but for its executor."""
    text = (PROJECT / "book" / "profiles" / "slurm" / "config.yaml").read_text()
    profile, elsewhere = tmp_path / "profile", tmp_path / "elsewhere"
    profile.mkdir()
    elsewhere.mkdir()
    (profile / "config.yaml").write_text(text.replace("executor: slurm", "executor: local"))
    line = [sys.executable, "-m", "snakemake", "--snakefile", str(clean.folder / "book" / "Snakefile"), "--dry-run"]
    done = subprocess.run(
        [*line, "--profile", str(profile), "--config", "profile=smoke"],
        cwd=elsewhere, env=clean.variables, capture_output=True, text=True,
    )  # fmt: skip
    assert jobs(done) == everything
    assert list(elsewhere.iterdir()) == []
    assert clean.entries() == set()


@pytest.mark.slow
def test_one_notebook_takes_its_own_runs_and_parsing_takes_no_torch(clean):
    line = ("--dry-run", "--cores", "2", "--config", "profile=smoke", "--", PAGE)
    if not list(clean.store.glob("plans/*.json")):
        clean.call(*line)  # makes the plan, in a process of its own
    done = clean.call(*line, python=("-X", "importtime"))
    imported = set(re.findall(r"\| +([\w.]+)$", done.stderr, re.M))
    assert "mfrbook.book.plan" in imported
    assert not imported & {"torch", "mne", "papermill", "matplotlib"}
    assert jobs(done) == {"run": 8, "notebook": 1}


def test_what_makes_no_sense_is_refused_before_a_job_starts(clean):
    done = clean.call("--dry-run", "--config", "profile=smoke", "stale=maybe")
    assert done.returncode == 1
    assert "stale: must be keep or recompute, given 'maybe'" in done.stdout + done.stderr


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """One notebook, as far as it takes its runs, with one seed, from a clean state, and a cell that fails; and what Snakemake said."""
    copy = Copy(tmp_path_factory.mktemp("failed") / "project")
    path = copy.folder / "notebooks" / "synthetic-similarity.ipynb"
    node = nbformat.read(path, as_version=4)
    takes = next(place for place, cell in enumerate(node.cells) if ".collect(" in cell.source)
    node.cells = [*node.cells[: takes + 1], nbformat.v4.new_code_cell("raise ValueError('planted')")]
    nbformat.write(node, path)
    done = copy.call("--cores", "2", "--config", "profile=smoke", *ONE, "--", PAGE)
    del node.cells[-1]
    nbformat.write(node, path)
    return copy, done


@pytest.fixture(scope="module")
def built(failed):
    """The same once the notebook is mended: only it is executed again."""
    copy, _ = failed
    assert copy.run(PAGE, config=ONE) == {"notebook": 1}
    return copy


@pytest.mark.slow
class TestForReal:
    """The tests follow each other on one project, as its user would go on."""

    def test_a_notebook_that_fails_is_kept_and_not_done(self, failed):
        copy, done = failed
        assert done.returncode == 1
        assert "synthetic-similarity.log" in done.stdout + done.stderr
        assert "ValueError: planted" in (copy.store / "logs" / "synthetic-similarity.log").read_text()
        pages = copy.folder / "_build" / "smoke" / "book" / "executed"
        kept = nbformat.read(pages / "synthetic-similarity.ipynb", as_version=4)
        assert kept.cells[-1].outputs[0].ename == "ValueError"
        assert not (copy.folder / PAGE).exists()

    def test_jobs_computed_all_that_the_notebook_asked_for_and_nothing_is_left_to_do(self, built):
        plan = json.loads(next(built.store.glob("plans/*.json")).read_text())
        markers = {path.stem: json.loads(path.read_text())["entry"] for path in built.store.glob("done/*/*.json")}
        assert set(markers) == set(plan["notebooks"]["synthetic-similarity"]["runs"])
        # No run is in the store but those of jobs: the notebook computed none.
        assert {str(entry) for entry in built.entries()} == set(markers.values())
        assert built.plan(PAGE, config=ONE) == {}

    def test_for_one_seed_more_only_what_is_new_is_to_be_computed(self, built):
        assert built.plan(PAGE, config=TWO) == {"run": 4, "notebook": 1}

    def test_runs_of_older_behaviour_and_damaged_ones_are_computed_again_when_that_is_asked_for(self, built):
        baseline = {"seed": 0, "alpha": 0, "reinit": "off"}.items()
        (first,) = [entry for entry in built.entries() if baseline <= config_of(entry).items()]
        file = first / METRICS
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        # The run, the one that waits for it, and the notebook.
        assert built.plan(PAGE, config=ONE) == {"run": 2, "notebook": 1}
        file.write_bytes(whole)

        source = built.folder / "book" / "mfrbook" / "store" / "behaviour.py"
        source.write_text(source.read_text().replace('"synthetic": 1,', '"synthetic": 2,', 1))
        renewing = (*ONE, "stale=recompute")
        assert built.plan(PAGE, config=renewing) == {"run": 4, "notebook": 1}
        marker = str(built.store / "done" / "synthetic" / f"{first.name}.json")
        assert built.run(marker, config=renewing) == {"run": 1}
        assert json.loads((first / "run.json").read_text())["provenance"]["behaviour"] == 2
