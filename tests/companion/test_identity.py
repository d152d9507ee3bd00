"""An answer never comes from data that nobody named: what a run is called follows the bytes of its data."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mfrbook.chapters import registry
from mfrbook.experiments import archived
from mfrbook.experiments.planned import plan
from mfrbook.store.provenance import PROJECT
from mfrbook.store.runs import CHECKSUMS
from mfrbook.store.store import Store
from mfrlib.config import ConfigError
from mfrlib.data import identity
from mfrlib.data.eeg import listing as eeg
from mfrlib.data.identity import ARCHIVED, Identity
from mfrlib.data.text import documents as text
from mfrlib.language_models.pretrained import names
from tests.library.data.eeg.conftest import write_edf  # noqa: F401

ARCHIVE = PROJECT / "book" / "results"


def declared_by_today_s_code(places):
    """Yield the folder of each archived run of real or built-in data, its id, and the id that its config has today."""
    for entry in sorted(ARCHIVE.glob(f"*/[!.]*/{CHECKSUMS}")):
        head = json.loads((entry.parent / "run.json").read_text(encoding="utf-8"))
        module = registry.load(head["experiment"])
        if hasattr(module, "data_id"):
            config = module.configure(
                {**head["config"], **{name: places[name] for name in places if name in head["config"]}}
            )
            yield entry.parent, head["data_id"], module.data_id(config)


class TestTheArchiveStaysReachable:
    def test_without_the_data(self, monkeypatch):
        monkeypatch.delenv("MFR_DATA", raising=False)
        found = list(declared_by_today_s_code({}))
        assert {entry.parent.name for entry, _, _ in found} >= {"eeg", "denoising", "gpt2", "end-to-end"}
        assert [entry for entry, archived, now in found if archived != now] == []

    def test_with_the_data(self, real_data):
        places = {
            "data": str(real_data / "eeg" / "eegmat"),
            "eye_movements": str(real_data / "eeg" / "eog_rem_256Hz.npz"),
        }
        assert [entry for entry, archived, now in declared_by_today_s_code(places) if archived != now] == []

    @pytest.mark.parametrize("there", [True, False])
    @pytest.mark.parametrize("name", ["eeg", "denoising"])
    def test_a_published_notebook_asks_for_archived_data(self, name, there, monkeypatch, request):
        if there:
            request.getfixturevalue("real_data")
        else:
            monkeypatch.delenv("MFR_DATA", raising=False)
        planned = plan([name], {"profile": "published"})
        ids = {head["data_id"] for head in map(head_of, ARCHIVE.glob(f"{name}/[!.]*/run.json"))}
        assert {one.data_id for one in planned} <= ids

    def test_other_recordings_below_the_data_folder_are_not_published(self, tmp_path, monkeypatch):
        folder = tmp_path / "eeg" / "eegmat"
        folder.mkdir(parents=True)
        (folder / "Subject00_1.edf").write_bytes(b"other")
        (tmp_path / "eeg" / "eog_rem_256Hz.npz").write_bytes(b"other")
        monkeypatch.setenv("MFR_DATA", str(tmp_path))
        assert archived.default_data("published") == "eegmat"
        assert archived.default_eye_movements("published") == "eog_rem_256Hz"
        assert archived.default_data("quick") == str(folder)

    def test_the_embedded_model_is_the_archive_s(self, tmp_path):
        assert names.identity_of("tiny-lm") == Identity("tiny-lm")
        copied = shutil.copytree(names.find("tiny-lm"), tmp_path / "mine")
        assert names.identity_of(str(copied)) == Identity("tiny-lm")
        (copied / "config.json").write_bytes((copied / "config.json").read_bytes().replace(b"\n", b"\r\n"))
        assert names.identity_of(str(copied)) == Identity("tiny-lm")  # a checkout on Windows


def head_of(path):
    return json.loads(path.read_text(encoding="utf-8"))


def elsewhere():
    """Return the module of identities as another process has it, with nothing in memory."""
    spec = importlib.util.find_spec(identity.__name__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestBytes:
    def test_the_name_of_a_folder_says_nothing(self, tmp_path):
        for name in ("a", "b", "eegmat"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "S001R01.edf").write_bytes(b"same")
        a, b, c = (eeg.identity_of(tmp_path / name) for name in ("a", "b", "eegmat"))
        assert a == b == c
        assert a.name == "own"
        (tmp_path / "b" / "S001R01.edf").write_bytes(b"othr")
        assert eeg.identity_of(tmp_path / "b") != a

    def test_names_of_recordings_do_for_they_say_whose_they_are(self, tmp_path):
        (tmp_path / "S001R01.edf").write_bytes(b"same")
        before = eeg.identity_of(tmp_path)
        (tmp_path / "S001R01.edf").rename(tmp_path / "S002R01.edf")
        assert eeg.identity_of(tmp_path) != before

    def test_times_that_were_put_back_hide_no_change(self, tmp_path):
        path = tmp_path / "large.f32"
        path.write_bytes(bytes(2**21))
        before, status = identity.of_file(path), path.stat()
        path.write_bytes(bytes(2**21 - 1) + b"1")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert identity.of_file(path) != before

    def test_a_hash_is_kept_on_disk_and_a_store_that_cannot_be_written_does_not_matter(self, tmp_path, monkeypatch):
        path = tmp_path / "large.f32"
        path.write_bytes(bytes(2**21))
        found = identity.of_file(path)
        with monkeypatch.context() as patch:
            patch.setattr("hashlib.file_digest", lambda *_: pytest.fail("read again"))
            assert elsewhere().of_file(path) == found
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("MFR_CACHE", str(tmp_path / "file"))
        assert elsewhere().of_file(path) == found
        monkeypatch.delenv("MFR_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr("mfrlib.environment.CHECKOUT", tmp_path)
        monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
        assert elsewhere().of_file(path) == found

    def test_texts(self, tmp_path):
        for name in ("a.txt", "b.txt", "c.jsonl"):
            (tmp_path / name).write_text("words")
        a, b, c = (text.identity_of(str(tmp_path / name)) for name in ("a.txt", "b.txt", "c.jsonl"))
        assert a == b != c  # what kind of file it is decides what its bytes mean
        assert archived.identity_of_text("python-docs") == Identity("python-docs")

    def test_models(self, tmp_path):
        folder = shutil.copytree(names.find("tiny-lm"), tmp_path / "tiny-lm")
        for name in ("tokenizer.json", "config.json", "model.safetensors"):
            whole = (folder / name).read_bytes()
            (folder / name).write_bytes(whole + b" ")
            found = names.identity_of(str(folder))
            assert found.name == "own", name
            (folder / name).write_bytes(whole)
        (folder / "README.md").write_text("decides nothing")
        assert names.identity_of(str(folder)) == Identity("tiny-lm")

    def test_models_of_the_hub_go_by_their_commit(self, tmp_path):
        """Offline, on a cache laid out as the hub's library leaves it, whose name then means another commit."""
        place = tmp_path / "models--someone--tiny"
        found = []
        for commit in ("1" * 40, "2" * 40):
            shutil.copytree(names.find("tiny-lm"), place / "snapshots" / commit)
            (place / "refs").mkdir(exist_ok=True)
            (place / "refs" / "main").write_text(commit)
            code = "from mfrlib.language_models.pretrained.names import identity_of; print(identity_of('someone/tiny').name)"
            environment = os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
            found.append(done.stdout.strip())
        assert found == [f"someone/tiny@{'1' * 12}", f"someone/tiny@{'2' * 12}"], done.stderr

    def test_words(self):
        assert identity.joined("x", Identity("known"), "name") == "x"
        assert identity.joined("x", Identity("own", "ab" * 32), "name") == "x:sha256:" + "ab" * 8
        both = identity.joined("x", Identity("own", "ab" * 32), Identity("own", "cd" * 32))
        assert both != identity.joined("x", Identity("own", "cd" * 32), Identity("own", "ab" * 32))

    def test_data_in_memory(self):
        from mfrlib.denoising.noisy_windows import Bank, GivenPairs, NoisyWindows, in_memory

        draws = np.random.default_rng(0)
        a, b = draws.standard_normal((2, 30, 8))
        assert in_memory(a, 4, 0).id == in_memory(a.copy(), 4, 0).id != in_memory(b, 4, 0).id
        assert GivenPairs.of([a], [b], 8, 4, 0).id != GivenPairs.of([a], [a], 8, 4, 0).id
        assert GivenPairs.of([a], [b], 8, 4, 0).id != GivenPairs.of([a], [b], 8, 4, 1).id  # in another order
        banks = [Bank({"eye": draws.standard_normal((2, 50)).astype("f4")}) for _ in range(2)]
        clean = in_memory(a, 4, 0)
        ids = {NoisyWindows(clean, 4, bank, seed).id for bank in (None, *banks) for seed in (0, 1)}
        assert len(ids) == 6


class TestNotThere:
    @pytest.mark.parametrize(
        ("experiment", "values", "said"),
        [
            ("eeg", {"data": "/no/such"}, "/no/such: cannot be read"),
            ("denoising", {"data": "/no/such"}, "/no/such: cannot be read"),
            ("denoising", {"data": "", "eye_movements": "/no/such.npz"}, "eye_movements: must be an npz file"),
            ("gpt2", {"text": "/no/such.txt"}, "no such file or folder"),
            ("end-to-end", {"text": "/no/such.txt"}, "no such file or folder"),
            ("gpt2", {"text": "someone/something"}, "cannot be had from the Hugging Face hub"),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("trains", [True, False])
    def test_it_is_refused_whatever_the_store_holds(self, experiment, values, said, trains, tmp_path, monkeypatch):
        module = registry.load(experiment)
        config = module.configure(values, "smoke")
        monkeypatch.setattr(Store, "get", lambda *_: pytest.fail("looked in the store"))
        with pytest.raises(ValueError, match=said):
            module.run(config, Store(tmp_path, trains=trains))
        with pytest.raises(ValueError, match=said):
            plan([experiment], {**values, "profile": "smoke"})

    def test_a_folder_that_was_moved_away_answers_no_more(self, tmp_path, write_edf):  # noqa: F811
        for i in range(4):
            write_edf(tmp_path / "mine" / f"Subject0{i}_1.edf", rate=250, seed=i)
        size = {"steps": 2, "batch_size": 16, "n_features": 32, "n_saes": 2, "k": [2, 4], "describe": False}
        module, store = registry.load("eeg"), Store(tmp_path / "runs")
        run = module.run(module.configure({**size, "data": str(tmp_path / "mine")}, "smoke"), store, progress=False)
        (tmp_path / "mine").rename(tmp_path / "moved")
        with pytest.raises(eeg.EEGDataError, match="mine: cannot be read"):
            module.run(module.configure({**size, "data": str(tmp_path / "mine")}, "smoke"), store)
        again = module.run(module.configure({**size, "data": str(tmp_path / "moved")}, "smoke"), store)
        assert again.key == run.key  # the same bytes
        assert run.data_id.startswith("eeg:own:single:250Hz:0.5-45Hz:train:sha256:")
        assert run.config["data"] == "mine"

    @pytest.mark.parametrize("experiment", ["eeg", "denoising"])
    def test_the_archive_s_names_are_answered_by_the_archive_alone(self, experiment, tmp_path, monkeypatch):
        monkeypatch.delenv("MFR_DATA", raising=False)
        monkeypatch.chdir(tmp_path)
        module = registry.load(experiment)
        head = head_of(next(iter(sorted(ARCHIVE.glob(f"{experiment}/[!.]*/run.json")))))
        config = module.configure(head["config"])
        assert module.run(config).key == head["key"]
        with pytest.raises(ConfigError, match="only the archive knows"):
            module.run(config, fresh=True)
        with pytest.raises(ConfigError, match="only the archive knows"):
            module.run(config, Store(tmp_path / "copied"))
        with pytest.raises(ConfigError, match="only the archive knows"):
            plan([experiment], {"profile": "smoke", "data": "eegmat"})
        assert not Path("copied").exists()

    def test_every_archived_name_has_bytes(self):
        assert all(len(one) == 64 for one in ARCHIVED.values())


class TestSourcesOfBatches:
    """What training into a folder that holds a checkpoint goes by: other data must not go on with it."""

    def sequences(self, seed, name="lm:x:y:train"):
        from mfrlib.data.text.sequences import Sequences

        tokens = np.random.default_rng(seed).integers(1, 20, size=(16, 6)).astype(np.uint16)
        return Sequences(tokens, name, False, 1)

    def test_tokens(self):
        from mfrlib.data.text.sequences import TokenBatches

        ids = [TokenBatches(self.sequences(i), 8, batch_size=4, seed=seed).id for i, seed in ((0, 0), (0, 1), (1, 0))]
        assert len(set(ids)) == 3

    def test_activations(self, random_lm):
        from mfrlib.language_models.activations import ActivationBatches, ModelReader

        hooks = ["blocks.0.hook_mlp_out", "blocks.1.hook_mlp_out"]
        readers = [ModelReader(random_lm, self.sequences(i), hooks) for i in range(2)]
        ids = {
            ActivationBatches(readers[i], hook, batch_size=8, seed=seed, shuffle=shuffle).id
            for i in range(2) for hook in hooks for seed in range(2) for shuffle in (True, False)
        }  # fmt: skip
        assert len(ids) == 16

    def test_other_data_in_the_same_folder_are_refused(self, tmp_path):
        from mfrlib.denoising.noisy_windows import in_memory
        from mfrlib.training.config import TrainingConfig
        from mfrlib.training.loop import train

        config = TrainingConfig(steps=2, batch_size=8, n_features=16, k=2, n_saes=1, device="cpu")
        a, b = np.random.default_rng(0).standard_normal((2, 32, 8))
        first = train(config, in_memory(a, 8, 0), folder=tmp_path, progress=False)
        again = train(config, in_memory(a.copy(), 8, 0), folder=tmp_path, progress=False)
        assert (first.sae.weight == again.sae.weight).all()
        with pytest.raises(ConfigError, match="holds the checkpoint of another run: data is"):
            train(config, in_memory(b, 8, 0), folder=tmp_path, progress=False)
