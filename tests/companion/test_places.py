"""Folders and files are those that somebody meant where they were named, in this process and in those that it starts."""

import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from filelock import FileLock

from mfrbook.book import notebooks
from mfrbook.chapters.denoising import runs as denoising
from mfrbook.chapters.eeg import runs as eeg
from mfrbook.chapters.gpt2 import runs as gpt2
from mfrbook.experiments import sources
from mfrbook.store.provenance import PROJECT
from mfrbook.store.runs import Run
from mfrbook.store.store import Store
from mfrlib import environment
from mfrlib.config import ConfigError
from mfrlib.data.text.documents import TextError, find


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Return an empty folder, which is the current one."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


class TestEnvironment:
    @pytest.mark.parametrize("name", ["MFR_CACHE", "MFR_DATA"])
    def test_a_relative_folder_is_one_place_wherever_one_goes(self, name, here, monkeypatch):
        (here / "mine").mkdir()
        (here / "other").mkdir()
        monkeypatch.setenv(name, "mine")
        place = environment.cache_folder if name == "MFR_CACHE" else environment.data_folder
        assert place() == here / "mine"
        monkeypatch.chdir("other")
        assert place() == here / "mine"
        assert os.environ[name] == str(here / "mine")  # what a child reads

    def test_home_is_home(self, here, monkeypatch):
        monkeypatch.setenv("HOME", str(here))
        monkeypatch.setenv("MFR_CACHE", "~/mine")
        assert environment.cache_folder() == here / "mine"

    def test_a_store_that_was_named_relatively_is_found_again_from_elsewhere(self, here, monkeypatch):
        monkeypatch.setenv("MFR_CACHE", "store")
        (here / "other").mkdir()
        config = eeg.configure({"data": "", "steps": 1}, "smoke")
        run = Run("eeg", {}, "x", {})
        Store().compute("eeg", config, "x", lambda _: run)
        monkeypatch.chdir("other")
        assert Store().get("eeg", config, "x") is not None
        assert not (here / "other" / "store").exists()

    def test_data_that_are_not_there_are_not_simulated(self, monkeypatch):
        monkeypatch.setenv("MFR_DATA", "/no/such")
        for call in (
            lambda: eeg.configure({}, "smoke"),
            lambda: denoising.configure({"data": ""}, "smoke"),
            lambda: find("x.txt"),
        ):
            with pytest.raises(ConfigError, match="MFR_DATA: must be a folder, given '/no/such'"):
                call()

    def test_without_a_home_it_is_said_what_to_set(self, here, monkeypatch):
        def homeless():
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", homeless)
        monkeypatch.delenv("MFR_CACHE")
        assert environment.cache_folder() == PROJECT / ".runs"
        monkeypatch.setattr(environment, "CHECKOUT", here)
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        with pytest.raises(ConfigError, match="MFR_CACHE: must name a folder to write to"):
            environment.cache_folder()

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_store_that_may_not_be_written(self, here, monkeypatch):
        here.chmod(0o500)
        monkeypatch.setenv("MFR_CACHE", str(here / "store"))
        with pytest.raises(OSError, match="set MFR_CACHE to a folder of your own"):
            Store().compute("eeg", eeg.configure({"data": ""}, "smoke"), "x", lambda _: pytest.fail("computed"))

    def test_a_store_that_cannot_be_written(self, here, monkeypatch):
        (here / "file").write_text("in the way")
        monkeypatch.setenv("MFR_CACHE", str(here / "file"))
        with pytest.raises(OSError, match=r"the store cannot be written.*set MFR_CACHE to a folder of your own"):
            Store().compute("eeg", eeg.configure({"data": ""}, "smoke"), "x", lambda _: pytest.fail("computed"))

    def test_a_store_on_a_file_system_without_locks(self, here, monkeypatch):
        monkeypatch.setenv("MFR_CACHE", str(here / "store"))
        monkeypatch.setattr(FileLock, "acquire", Mock(side_effect=NotImplementedError))
        with pytest.raises(KeyboardInterrupt):
            Store().compute("eeg", eeg.configure({"data": ""}, "smoke"), "x", Mock(side_effect=KeyboardInterrupt))


class TestParameters:
    def test_paths_are_from_the_current_folder(self, here):
        (here / "mine").mkdir()
        (here / "a.txt").write_text("words")
        values = {
            "data": "edfs",
            "eye_movements": "eyes.npz",
            "model": "mine",
            "text": "a.txt",
            "k": [1, 2],
            "alpha": None,
        }
        assert sources.resolved(values) == {
            **values, "data": str(here / "edfs"), "eye_movements": str(here / "eyes.npz"), "model": str(here / "mine"),
            "text": str(here / "a.txt"),
        }  # fmt: skip

    def test_what_is_built_in_or_on_the_hub_stays(self, here, monkeypatch):
        monkeypatch.delenv("MFR_DATA", raising=False)
        for values in (
            {"data": "", "model": "tiny-lm", "text": "sample"},
            {"data": "eegbci", "model": "gpt2", "text": "python-docs"},
            {"data": "eegmat", "eye_movements": "eog_rem_256Hz", "model": "a/b", "text": "a/b"},
        ):
            assert sources.resolved(values) == values

    @pytest.mark.parametrize(("name", "value"), [("data", "eegbci"), ("model", "tiny-lm"), ("text", "sample")])
    def test_a_folder_named_as_what_is_built_in_is_not_passed_over_in_silence(self, name, value, here):
        (here / value).mkdir()
        with pytest.raises(ConfigError, match=rf"{name}: is built in, and a folder .* write \./{value}"):
            sources.resolved({name: value})
        (here / value / "a.txt").write_text("words")
        assert sources.resolved({name: f"./{value}"}) == {name: str(here / value)}

    def test_a_folder_named_as_the_archive_s_data_is_the_folder(self, here):
        (here / "eegmat").mkdir()
        assert sources.resolved({"data": "eegmat"}) == {"data": str(here / "eegmat")}

    def test_what_is_not_there_is_refused(self, here):
        with pytest.raises(TextError, match="no such file"):
            sources.resolved({"text": "mine.txt"})

    def test_numbers_of_numpy(self):
        assert sources.resolved({"n_seeds": np.int64(2), "k": np.array([3, 4])}) == {"n_seeds": 2, "k": [3, 4]}

    def test_a_config_keeps_the_place_where_it_was_made(self, here, monkeypatch):
        (here / "edfs").mkdir()
        (here / "other").mkdir()
        (here / "a.txt").write_text("words")
        made = eeg.configure({"data": "edfs"}, "smoke"), denoising.configure({"data": "edfs"}, "smoke")
        reads = gpt2.configure({"text": "a.txt"}, "smoke")
        monkeypatch.chdir("other")
        assert {one.data for one in made} == {str(here / "edfs")}
        assert reads.text == str(here / "a.txt")

    def test_a_notebook_is_given_what_was_meant(self, here, monkeypatch):
        papermill = pytest.importorskip("papermill")

        class Given(Exception):
            pass

        def execute(*_, parameters, **__):
            raise Given(parameters["data"])

        monkeypatch.setattr(papermill, "execute_notebook", execute)
        monkeypatch.setattr(notebooks, "check", lambda *_: [])
        (here / "edfs").mkdir()
        (here / "edfs" / "a.edf").write_bytes(b"x")
        with pytest.raises(Given, match=str(here / "edfs")):
            notebooks.execute("eeg", {"data": "edfs"}, "smoke", Path("out.ipynb"))

    def test_a_page_is_of_the_data_that_it_was_made_from(self, here, monkeypatch):
        monkeypatch.delenv("MFR_DATA", raising=False)
        (here / "a.txt").write_text("words")
        values = sources.resolved({"text": "a.txt", "profile": "smoke"})
        before = notebooks.inputs(notebooks.find("gpt2"), values)
        assert notebooks.inputs(notebooks.find("gpt2"), values) == before
        (here / "a.txt").write_text("other")
        assert notebooks.inputs(notebooks.find("gpt2"), values) != before


class TestKernel:
    def test_it_is_this_interpreter_s_whatever_lies_on_jupyter_s_path(self, here, monkeypatch):
        pytest.importorskip("ipykernel")
        from mfrbook.book.kernel import OwnKernel

        folder = here / "kernels" / "python3"
        folder.mkdir(parents=True)
        (folder / "kernel.json").write_text(
            '{"argv": ["/no/such/python"], "display_name": "Site", "language": "python"}'
        )
        monkeypatch.setenv("JUPYTER_PATH", str(here))
        assert OwnKernel(kernel_name="python3").kernel_spec.argv[0] == sys.executable


@pytest.mark.slow
def test_the_package_imports_and_trains_without_home(tmp_path):
    """As a user that the system does not know, in a container, has it."""
    code = (
        "import os, pathlib\n"
        "def homeless(): raise RuntimeError('Could not determine home directory.')\n"
        "pathlib.Path.home = homeless\n"
        "import mfrlib, torch\n"
        "from mfrlib import TrainingConfig, train\n"
        "from mfrlib.denoising.noisy_windows import in_memory\n"
        "source = in_memory(torch.randn(32, 8).numpy(), 16, 0)\n"
        "print(train(TrainingConfig(steps=2, batch_size=16, n_features=16, k=2, n_saes=1, device='cpu'), source, progress=False).alpha)\n"
    )
    environment = {
        name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME", "MFR_CACHE")
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=PROJECT, env=environment
    )
    assert done.stdout == "0.0\n", done.stderr
