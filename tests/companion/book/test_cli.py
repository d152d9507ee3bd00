import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from mfrbook.book import archive, notebooks, verify
from mfrbook.book.plan import Plan
from mfrbook.command import cli, commands
from mfrbook.experiments.values import parse_pairs
from mfrbook.ledger import claims
from mfrbook.pages import pdf
from mfrbook.store import runs, store
from mfrbook.store.provenance import PROJECT
from mfrlib import environment
from mfrlib.config import ConfigError
from tests.companion.book.test_plan import entry

TINY = {"n_input_features": 24, "d_in": 12, "n_groups": 4, "n_active": 3, "n_features": 16, "k": 3, "steps": 6,
        "batch_size": 32, "device": "cpu"}  # fmt: skip


def train(**values):
    """Return the arguments of `mfr train synthetic` at a size of milliseconds, with further values."""
    pairs = [part for name, value in (TINY | values).items() for part in ("-p", f"{name}={value}")]
    return ["train", "synthetic", "--profile", "smoke", *pairs]


def test_train_prints_the_run_and_stores_it(capsys, monkeypatch):
    assert cli.main(train(alpha=2)) == 0
    printed = json.loads(capsys.readouterr().out)
    stored = list(store.Store(environment.cache_folder()).all())
    assert [run.key for run in stored] == [printed["key"]]
    assert printed["loss"] == stored[0].results["loss"]
    assert printed["alpha"] == 2
    assert printed["stale"] is False

    monkeypatch.setattr("mfrbook.chapters.synthetic.runs.train", lambda *_, **__: pytest.fail("trained again"))
    assert cli.main(train(alpha="2.0")) == 0  # the same value, so the same run
    assert json.loads(capsys.readouterr().out) == printed


def test_fresh_trains_again_to_the_same_numbers(capsys):
    assert cli.main(train()) == 0
    first = capsys.readouterr().out
    assert cli.main([*train(), "--fresh"]) == 0
    assert capsys.readouterr().out == first


REFUSED = [
    ({"n_feature": 3}, "unknown parameter 'n_feature'; did you mean 'n_features'?"),
    ({"k": 17}, "k: between 1 and n_features = 16, given 17"),
    ({"k": 0}, "k: between 1 and n_features = 16, given 0"),
    ({"k": "[3, 3, 3]"}, "k: one value, or n_saes = 2, given (3, 3, 3)"),
    ({"k": 2.5}, "k: must be int or a list of int, given 2.5"),
    ({"k": "[]"}, "k: one value, or n_saes = 2, given ()"),
    ({"d_in": 24}, "n_input_features: G must exceed d_in = 24: features are superposed, given 24"),
    ({"alpha": -1}, "alpha: must be 0, positive and finite, or 'calibrate', given -1"),
    ({"alpha": "NaN"}, "alpha: must be 0, positive and finite, or 'calibrate', given nan"),
    ({"alpha": "Infinity"}, "alpha: must be 0, positive and finite, or 'calibrate', given inf"),
    ({"alpha": "calibrated"}, "alpha: must be float or one of 'calibrate', given 'calibrated'"),
    ({"alpha": 1, "n_saes": 1}, "a penalty needs n_saes of 2 or more, given 1"),
    ({"n_saes": 1}, "n_saes: similarity across SAEs needs 2 or more, given 1"),
    ({"n_saes": "true"}, "n_saes: must be int, given True"),
    ({"steps": "1e3"}, "steps: must be int, given 1000.0"),
    ({"steps": "many"}, "steps: must be int, given 'many'"),
    ({"steps": 0}, "steps: must be 1 or more, given 0"),
    ({"seed": -1}, "seed: must be 0 or more, given -1"),
    ({"reinit": "sometimes"}, "reinit: must be one of 'off', 'window', 'always', given 'sometimes'"),
    ({"reinit": "true"}, "reinit: must be one of 'off', 'window', 'always', given True"),
    ({"inactivity_power": 2}, "inactivity_power: must be one of 1, 3, given 2"),
    ({"learning_rate": 0}, "learning_rate: must be positive and finite, given 0"),
    ({"decay": 1}, "decay: λ must lie between 0 and 1, and λ^6 not underflow, given 1"),
    ({"n_active": 7}, "n_active: at most the smallest group's 6 features, given 7"),
    ({"n_active_groups": 5}, "n_active_groups: 1, or all n_groups = 4, given 5"),
    ({"preset": "as-print"}, "unknown preset 'as-print'; did you mean 'as-printed'?"),
    ({"preset": "papers"}, "unknown preset 'papers'; there are"),
    ({"preset": 3}, "unknown preset 3; there are: all-groups, as-printed, as-released, first-edition"),
    ({"preset": "[1]"}, "unknown preset [1]; there are: all-groups, as-printed, as-released, first-edition"),
    ({"device": "gpu"}, "device: must be auto, cpu, or cuda or mps where there is such a GPU, given 'gpu'"),
    ({"profile": "published"}, "unknown parameter 'profile'"),
]


@pytest.mark.parametrize(("values", "words"), REFUSED)
def test_a_bad_value_is_refused_before_a_run_starts(values, words, capsys, monkeypatch):
    monkeypatch.setattr(store.Store, "compute", lambda *_, **__: pytest.fail("a run was started"))
    assert cli.main(train(**values)) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("mfr: ")
    if {"n_saes", "alpha"} <= set(values):
        assert "n_saes" in captured.err  # either rule may speak first
    else:
        assert words in captured.err
    assert captured.out == ""
    assert not environment.cache_folder().exists()


@pytest.mark.parametrize("pair", ["alpha", "=3", "", "alpha:3"])
def test_what_is_no_pair_is_refused(pair, capsys):
    assert cli.main(["train", "synthetic", "-p", pair]) == 2
    assert f"-p: name=value, given {pair!r}" in capsys.readouterr().err


def test_an_unknown_experiment_or_notebook_is_refused_with_the_nearest(capsys):
    assert cli.main(["train", "synthetics"]) == 2
    assert "unknown experiment 'synthetics'; did you mean 'synthetic'?" in capsys.readouterr().err
    assert cli.main(["run", "synthetic-trainings"]) == 2
    assert "unknown notebook 'synthetic-trainings'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["train", "eeg"], ["run", "eeg"], ["claims"], ["plan"], ["book"], ["verify", next((PROJECT / "book/results/eeg").iterdir()).name]],
)  # fmt: skip
def test_no_command_passes_over_a_parameter_that_does_not_exist(arguments, capsys, monkeypatch):
    monkeypatch.setattr(store.Store, "compute", lambda *_, **__: pytest.fail("a run was started"))
    assert cli.main([*arguments, "-p", "n_sea=2"]) == 2
    captured = capsys.readouterr()
    assert "unknown parameter 'n_sea'; did you mean 'n_s" in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize("arguments", [[], ["trian"], ["train"], ["train", "synthetic", "--profile", "big"]])
def test_a_command_line_that_says_nothing_exits_2(arguments, capsys):
    with pytest.raises(SystemExit) as raised:
        cli.main(arguments)
    assert raised.value.code == 2
    assert "usage: mfr" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OSError(28, "No space left on device"), 1),
        (PermissionError(13, "Permission denied", "/store"), 1),
        (store.MissingRunsError("not in the archive: synthetic 0123"), 1),
        (ImportError("EEG needs MNE-Python: pip install 'mfrlib[eeg]'"), 1),
        (subprocess.TimeoutExpired(["chromium"], 600), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_failures_are_one_line_on_stderr(error, status, capsys, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(store.Store, "compute", fail)
    assert cli.main(train()) == status
    captured = capsys.readouterr()
    assert captured.err.startswith("mfr: ")
    assert captured.err.count("\n") == 1
    assert (str(error) or "interrupted") in captured.err


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(store.Store, "compute", lambda *_, **__: {}["loss"])
    with pytest.raises(KeyError):
        cli.main(train())


def test_a_preset_is_no_parameter_of_an_experiment_without(capsys):
    assert cli.main(["train", "eeg", "--profile", "smoke", "-p", "preset=first-edition"]) == 2
    assert capsys.readouterr().err.startswith("mfr: unknown parameter 'preset'; ")


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", "null", '{"runs": []}', '{"runs": {"0123": 3}}'])
def test_a_file_that_holds_no_plan_is_refused(content, tmp_path, capsys):
    file = tmp_path / "plan.json"
    file.write_text(content)
    assert cli.main(["compute", str(file), "0123"]) == 2
    assert capsys.readouterr().err == f"mfr: {file}: must hold what mfr plan prints\n"


def test_a_run_that_is_not_in_the_plan_is_refused_with_the_nearest(tmp_path, capsys):
    key, about = entry()
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(asdict(Plan("smoke", {}, {key: about}, {}))))
    assert cli.main(["compute", str(file), key[:-1]]) == 2
    assert capsys.readouterr().err == f"mfr: unknown run of the plan {key[:-1]!r}; did you mean {key!r}?\n"
    assert not environment.cache_folder().exists()


def test_a_diverging_run_exits_1_and_is_not_in_the_store(capsys):
    assert cli.main(train(learning_rate=1e38, steps=20)) == 1
    assert "not finite" in capsys.readouterr().err
    assert list(store.Store(environment.cache_folder()).all()) == []


class TestEachCommandHandsOn:
    """What was asked for to the library, and what came out to the shell."""

    @pytest.fixture
    def ledger(self, monkeypatch, tmp_path):
        """Return what the ledger was asked for; what would be published goes to a temporary folder."""
        asked = []
        monkeypatch.setattr(claims, "ledger", lambda *arguments: asked.append(arguments) or [{"id": "S1"}])
        monkeypatch.setattr(claims, "text", lambda rows: " ".join(row["id"] for row in rows))
        monkeypatch.setattr(commands, "PROJECT", tmp_path)
        return asked

    @pytest.fixture
    def published(self, tmp_path):
        return tmp_path / "book" / "results" / "claims.json"

    def test_claims(self, ledger, published, capsys):
        assert cli.main(["claims", "--profile", "smoke", "-p", "n_seeds=2"]) == 0
        assert ledger == [("smoke", {"n_seeds": 2})]
        assert capsys.readouterr().out == "S1\n"
        assert not published.exists()

    def test_claims_publish(self, ledger, published, capsys):
        assert cli.main(["claims", "--profile", "published", "--publish"]) == 0
        assert ledger == [("published", {})]
        assert capsys.readouterr().out == "S1\n"
        assert json.loads(published.read_text()) == [{"id": "S1"}]

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--profile", "quick"], "--profile: must be published with --publish, given 'quick'"),
            (["--profile", "smoke"], "--profile: must be published with --publish, given 'smoke'"),
            (["--profile", "published", "-p", "n_seeds=2"], "-p: takes no value with --publish, given ['n_seeds=2']"),
        ],
    )
    def test_only_the_published_book_s_ledger_is_published(self, options, words, ledger, published, capsys):
        assert cli.main(["claims", "--publish", *options]) == 2
        assert capsys.readouterr().err == f"mfr: {words}\n"
        assert not ledger
        assert not published.exists()

    @pytest.mark.parametrize(("exact", "status"), [(True, 0), (False, 1)])
    def test_verify(self, exact, status, monkeypatch, capsys):
        run, asked = runs.Run("synthetic", {}, "synthetic", {}, key="0123"), []
        monkeypatch.setattr(verify, "find", lambda key: asked.append(key) or run)
        compared = verify.Comparison(run, exact, [], {"loss": (0.1, 0.0)})
        monkeypatch.setattr(verify, "verify", lambda *arguments: asked.append(arguments) or compared)
        assert cli.main(["verify", "01", "-p", "data=here"]) == status
        assert asked == ["01", (run, {"data": str(Path("here").absolute())})]
        assert capsys.readouterr().out == compared.report() + "\n"

    @pytest.mark.parametrize(("failed", "status"), [([], 0), (["0123", "4567"], 1)])
    def test_archive(self, failed, status, monkeypatch, capsys):
        asked = []
        monkeypatch.setattr(archive, "fill", lambda **options: asked.append(options) or failed)
        assert cli.main(["archive", "--jobs", "2", "--renew"]) == status
        assert asked == [{"jobs": 2, "renew": True}]
        assert capsys.readouterr().err == ("mfr: 2 runs failed: 0123, 4567\n" if failed else "")

    def test_run_into_a_file(self, monkeypatch, tmp_path, capsys):
        asked, output = [], tmp_path / "out.ipynb"
        monkeypatch.setattr(notebooks, "execute", lambda *arguments: asked.append(arguments))
        assert cli.main(["run", "eeg", "--profile", "smoke", "-p", "k=[6, 12]", "-o", str(output), "--no-page"]) == 0
        assert asked == [("eeg", {"k": [6, 12]}, "smoke", output)]
        assert capsys.readouterr().out == f"{output}\n"

    def test_pdf(self, monkeypatch, capsys):
        monkeypatch.setattr(pdf, "write_pdf", lambda project: project / "_build" / "book.pdf")
        assert cli.main(["pdf"]) == 0
        assert capsys.readouterr().out == f"{PROJECT / '_build' / 'book.pdf'}\n"


def test_values_are_json_or_else_words():
    assert parse_pairs(["a=1", "b=1.5", "c=true", "d=null", "e=[12, 24]", "f=off", 'g="3"', "h=x=y"]) == {
        "a": 1,
        "b": 1.5,
        "c": True,
        "d": None,
        "e": [12, 24],
        "f": "off",
        "g": "3",
        "h": "x=y",
    }
    with pytest.raises(ConfigError):
        parse_pairs(["a"])
    with pytest.raises(ConfigError, match=r"needs a value.*given 'data='"):  # as of a variable that is not set
        parse_pairs(["data="])
    with pytest.raises(ConfigError, match="a is given twice"):
        parse_pairs(["a=1", "a=2"])


def test_make_prints_the_book_as_it_was_last_built():
    """Without building it first, which would be at the quick profile."""
    line = ["make", "--dry-run", "pdf"]
    said = subprocess.run(line, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert "mfr pdf" in said
    assert "mfr book" not in said


def test_the_command_itself(tmp_path):
    """Through a process, as a shell does: status, message on standard error, nothing on standard output."""
    done = subprocess.run(
        [sys.executable, "-m", "mfrbook", "train", "synthetic", "-p", "k=600"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "mfr: k: between 1 and n_features = 512, given 600\n"


def test_in_a_folder_that_was_deleted_meanwhile(tmp_path):
    """Where PyTorch cannot even be imported."""
    (tmp_path / "gone").mkdir()
    line = ["sh", "-c", 'rmdir "$PWD"; exec "$0" -m mfrbook train synthetic', sys.executable]
    done = subprocess.run(line, cwd=tmp_path / "gone", capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mfr: current folder: must not be deleted")
    assert done.stderr.count("\n") == 1
