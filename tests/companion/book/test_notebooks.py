import contextlib
import json
import os
import shutil

import nbformat
import papermill
import pytest
from nbclient.exceptions import DeadKernelError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mfrbook.book import notebooks
from mfrbook.book.edition import Edition
from mfrbook.book.notebooks import NotebookError, Parameter, check, execute, find, output_path, parameters
from mfrbook.store.provenance import PROJECT
from mfrbook.store.runs import CHECKSUMS
from mfrbook.store.store import Store
from mfrlib.config import ConfigError

DECLARED = """\
profile: str = "quick"  # size of the runs
seeds: int | None = None  # None: the profile's
rate: float = 0.5  # a rate
names: list[int] = [1, 2]  # several
sizes: int | list[int] | None = [3, 4]  # λ: "all" # of them
alpha: float | str = 3.0  # weight, or calibrate
fast: bool = False  # quick and dirty
"""


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a notebook: a parameters cell, then code cells."""

    def write(*code, declared=DECLARED, name="tiny", asks=()):
        cells = [new_markdown_cell("# Tiny"), new_code_cell(declared, metadata={"tags": ["parameters"]})]
        notebook = new_notebook(cells=[*cells, *map(new_code_cell, code)])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook.metadata["mfr"] = {"asks": list(asks)}
        path = tmp_path / f"{name}.ipynb"
        nbformat.write(notebook, path)
        return path

    return write


def test_parameters_are_read_with_types_defaults_and_help(write):
    found = parameters(write())
    assert found["seeds"] == Parameter("seeds", int | None, None, "None: the profile's")
    assert found["rate"] == Parameter("rate", float, 0.5, "a rate")
    assert found["names"].default == [1, 2]
    assert found["sizes"] == Parameter("sizes", int | list[int] | None, [3, 4], 'λ: "all" # of them')
    assert found["alpha"].hint == float | str
    assert list(found) == ["profile", "seeds", "rate", "names", "sizes", "alpha", "fast"]


def test_what_is_declared_is_never_evaluated(write):
    with pytest.raises((ValueError, ConfigError)):
        parameters(write(declared='profile: str = __import__("os").getcwd()  # no'))
    with pytest.raises(ConfigError, match=r"type must be made of.*'Path'"):
        parameters(write(declared="where: Path = None  # no"))
    with pytest.raises(ConfigError, match=r"name: type = default.*given 'rate = 3'"):
        parameters(write(declared="rate = 3"))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"seeds": 3},
        {"seeds": None},
        {"rate": 1},
        {"names": []},
        {"names": [3]},
        {"alpha": "calibrate"},
        {"alpha": 1, "fast": True},
    ],
)
def test_good_values_pass(write, values):
    check(write(), values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"seed": 3}, "unknown parameter 'seed'; did you mean 'seeds'"),
        ({"seeds": 3.0}, r"seeds: must be int or null, given 3\.0"),
        ({"seeds": True}, "seeds: must be int or null, given True"),
        ({"rate": "fast"}, "rate: must be float, given 'fast'"),
        ({"rate": None}, "rate: must be float, given None"),
        ({"names": ["a"]}, r"names: must be a list of int, given \['a'\]"),
        ({"names": 3}, "names: must be a list of int, given 3"),
        ({"fast": 1}, "fast: must be bool, given 1"),
    ],
)
def test_bad_values_are_refused(write, values, words):
    with pytest.raises(ConfigError, match=words):
        check(write(), values)


SYNTHETIC = DECLARED + "k: int | None = None  # k\nn_seeds: int | None = None  # seeds\n"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"k": 513}, "k: between 1 and n_features = 512, given 513"),
        ({"alpha": -1}, "alpha: must be 0, positive"),
        ({"alpha": "calibrated"}, "alpha: must be float or one of 'calibrate', given 'calibrated'"),
        ({"n_seeds": 0}, "n_seeds: must be 1 or more, given 0"),
        ({"profile": "fast"}, "unknown profile 'fast'"),
    ],
)
def test_values_that_no_run_could_have_are_refused(write, values, words):
    path = write(declared=SYNTHETIC, asks=["synthetic"])
    check(path, {"k": 30, "n_seeds": 2})
    with pytest.raises(ConfigError, match=words):
        check(path, values)


def test_find_by_name_and_path(write, monkeypatch, tmp_path):
    path = write()
    monkeypatch.setattr(notebooks, "FOLDER", tmp_path)
    assert find("tiny") == find(str(path)) == path
    with pytest.raises(ConfigError, match="unknown notebook 'tinny'; did you mean 'tiny'"):
        find("tinny")


def test_a_book_page_is_only_written_without_parameters_of_one_s_own(write):
    path = str(write())
    assert output_path(path, {}, "quick") == Edition(PROJECT, "quick").executed / "tiny.ipynb"
    own = [output_path(path, {"rate": 0.1}, "quick"), output_path(path, {"rate": 0.2}, "quick"),
           output_path(path, {"rate": 0.1}, "smoke")]  # fmt: skip
    assert len(set(own)) == 3
    assert {one.parent.name for one in own} == {"runs"}
    assert output_path(path, {"rate": 0.1, "fast": True}, "quick") == output_path(
        path, {"fast": True, "rate": 0.1}, "quick"
    )


@pytest.mark.parametrize("values", [{"sedes": 1}, {"rate": "x"}])
def test_nothing_starts_where_a_value_is_refused(write, tmp_path, monkeypatch, values):
    monkeypatch.setattr(papermill, "execute_notebook", lambda *_, **__: pytest.fail("a kernel was started"))
    with pytest.raises(ConfigError):
        execute(str(write()), values, "quick", tmp_path / "out" / "tiny.ipynb")
    assert not (tmp_path / "out").exists()


def test_a_profile_given_twice_is_refused(write, tmp_path):
    with pytest.raises(ConfigError, match="profile: given twice, as 'quick' and as parameter 'published'"):
        execute(str(write()), {"profile": "published"}, "quick", tmp_path / "out.ipynb")


def test_a_notebook_is_executed_again_once_a_run_that_it_shows_was_renewed(write, tmp_path, monkeypatch):
    path, out = write(declared=SYNTHETIC, asks=["synthetic"]), tmp_path / "out.ipynb"
    monkeypatch.setattr(papermill, "execute_notebook", lambda *_, **__: nbformat.read(path, as_version=4))
    first, *_ = check(path, {"profile": "smoke"})
    for entry in Store().entries(first.experiment, first.key)[1:]:  # as if the notebook had computed it
        entry.mkdir(parents=True)
        (entry / CHECKSUMS).write_text("{}")

    def executed():
        return execute(str(path), {}, "smoke", out, only_if_stale=True)

    assert executed()
    assert not executed()
    for later in (0, 1):  # a run that is no newer, then one that is
        time = out.stat().st_mtime_ns + later
        os.utime(entry / CHECKSUMS, ns=(time, time))
        assert executed() == bool(later)
    time = out.stat().st_mtime_ns + 10**9
    other = Store().cache / first.experiment / ("0" * 16)  # no business of this notebook
    other.mkdir()
    (other / CHECKSUMS).write_text("{}")
    os.utime(other / CHECKSUMS, ns=(time, time))
    assert not executed()


def test_an_output_depends_on_the_package_s_source_its_kernels_too(write, tmp_path, monkeypatch):
    path, package = write(), tmp_path / "mfrlib"
    package.mkdir()
    monkeypatch.setattr(notebooks, "PROJECT", tmp_path)
    found = {notebooks.inputs(path, {})}
    for name in ("sae.py", "native.c"):
        (package / name).write_text("/* another */")
        found.add(notebooks.inputs(path, {}))
    assert len(found) == 3


def outputs(path):
    """Return the text of all outputs of an executed notebook."""
    cells = nbformat.read(path, as_version=4).cells
    return "".join(o.get("text", "") for cell in cells if cell.cell_type == "code" for o in cell.outputs)


@pytest.mark.filterwarnings("ignore")  # of papermill and Jupyter, about themselves
class TestExecution:
    def test_a_notebook_is_executed_with_its_parameters_and_then_left_alone(self, write, tmp_path):
        path, out = write("print(profile, seeds, rate, names, fast)"), tmp_path / "deep" / "out.ipynb"
        assert execute(str(path), {"seeds": 4}, "smoke", out)
        assert outputs(out) == "smoke 4 0.5 [1, 2] False\n"
        mfr = nbformat.read(out, as_version=4).metadata["mfr"]
        assert mfr["profile"] == "smoke"
        assert mfr["versions"]["python"]
        assert {"commit", "dirty", "machine", "platform", "inputs"} <= set(mfr)

        before = out.read_bytes()
        assert not execute(str(path), {"seeds": 4}, "smoke", out, only_if_stale=True)
        assert out.read_bytes() == before
        for changed in ({"seeds": 5}, {"seeds": 4, "fast": True}):
            assert notebooks.inputs(path, {**changed, "profile": "smoke"}) != mfr["inputs"]
        write("print(1)")
        assert notebooks.inputs(path, {"seeds": 4, "profile": "smoke"}) != mfr["inputs"]

    def test_a_failing_cell_is_named_and_the_partial_notebook_kept(self, write, tmp_path):
        path, out = write("print('before')", "1 / 0", "print('after')"), tmp_path / "out.ipynb"
        with pytest.raises(NotebookError, match=rf"tiny\.ipynb, cell 4: ZeroDivisionError(.|\n)*{out}"):
            execute(str(path), {}, "smoke", out)
        # 4 as the notebook shows it: parameters, the injected ones, one that works, the one that fails
        cells = [cell for cell in nbformat.read(out, as_version=4).cells if cell.cell_type == "code"]
        assert next(cell for cell in cells if cell.source == "1 / 0").execution_count == 4
        assert "before" in outputs(out)
        assert "after" not in outputs(out)
        assert not notebooks.fresh(out, notebooks.inputs(path, {"profile": "smoke"}))

    def test_a_kernel_that_dies_is_a_failed_notebook_too(self, write, tmp_path):
        path, out = write("print('before')", "import os; os._exit(1)"), tmp_path / "out.ipynb"
        with pytest.raises(NotebookError, match=rf"tiny\.ipynb, cell 4: the kernel died(.|\n)*{out}"):
            execute(str(path), {}, "smoke", out)
        assert "before" in outputs(out)

    @pytest.mark.parametrize("there", [True, False])
    def test_a_kernel_runs_in_no_profile_of_the_user_s(self, write, tmp_path, monkeypatch, there):
        """Whose start-up files would change results, or whose folder cannot be written."""
        startup = tmp_path / "ipython" / "profile_default" / "startup"
        startup.mkdir(parents=True)
        (startup / "00.py").write_text("mine = 1")
        (tmp_path / "file").touch()
        monkeypatch.setenv("IPYTHONDIR", str(tmp_path / ("ipython" if there else "file/ipython")))
        execute(str(write("print('mine' in globals())")), {}, "smoke", tmp_path / "out.ipynb")
        assert "False" in outputs(tmp_path / "out.ipynb")


def test_the_project_s_notebooks_declare_what_their_experiment_takes():
    for name in notebooks.NAMES:
        path = notebooks.FOLDER / f"{name}.ipynb"
        check(path, {"profile": "smoke"})
        declared = parameters(path)
        assert "profile" in declared
        # All that the cell assigns is declared: what is left out could not be given a value.
        source = next(
            c.source for c in nbformat.read(path, as_version=4).cells if "parameters" in c.metadata.get("tags", [])
        )
        values = {}
        exec(source, values)
        assert set(declared) == set(values) - {"__builtins__", "__annotations__", "Optional", "Union"}
        assert {key: one.default for key, one in declared.items()} == {key: values[key] for key in declared}
        assert all(one.help for one in declared.values()), name
        code = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
        assert not any(cell["outputs"] for cell in code), f"{name}: strip its outputs"


@pytest.mark.parametrize("name", notebooks.NAMES)
def test_papermill_lists_the_same_parameters(name):
    """So that `papermill --help-notebook` is whole, and plain papermill does not call a parameter unknown."""
    notebook = notebooks.find(name)
    assert set(papermill.inspect_notebook(str(notebook))) == set(parameters(notebook))


@pytest.fixture
def failing(write, tmp_path, monkeypatch):
    """Return a function that executes a notebook while papermill fails so many times, and tells its number of attempts."""
    path = write()

    def attempts(times, error):
        made = []

        def papermill_s(source, output, **_):
            made.append(None)
            shutil.copy(source, output)  # what there is of it is kept
            if len(made) <= times:
                raise error
            return nbformat.read(path, as_version=4)

        monkeypatch.setattr(papermill, "execute_notebook", papermill_s)
        with contextlib.suppress(type(error), NotebookError):
            execute(str(path), {}, "smoke", tmp_path / "out" / "tiny.ipynb")
            made.append("executed")
        return made

    return attempts


def test_a_kernel_that_does_not_start_is_started_again(failing):
    slow = RuntimeError("Kernel didn't respond in 60 seconds")
    assert failing(2, slow) == [None, None, None, "executed"]
    assert failing(9, slow) == [None, None, None]


@pytest.mark.parametrize("error", [DeadKernelError("Kernel died"), ValueError("a cell's")])
def test_what_fails_later_is_not_begun_again(failing, error):
    assert failing(9, error) == [None]


def test_what_only_the_archive_holds_is_left_out_at_other_profiles():
    whole, small = (notebooks.of_profile(notebooks.find("gpt2"), profile) for profile in ("published", "smoke"))
    gone = [cell.source for cell in whole.cells if cell not in small.cells]
    assert gone
    archived = ("smollm2", "looking", "released")
    assert all(one.startswith("#") or any(name in one.lower() for name in archived) for one in gone)
    assert not any("smollm2.collect" in cell.source for cell in small.cells)
    assert sum("report.values" in cell.source for cell in small.cells) == 1
    assert (
        notebooks.of_profile(notebooks.find("eeg"), "smoke").cells
        == notebooks.of_profile(notebooks.find("eeg"), "published").cells
    )
