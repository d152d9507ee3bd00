import dataclasses
import errno
import hashlib
import json
import multiprocessing
import os
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
import safetensors.torch
import torch

from mfrbook.chapters import registry
from mfrbook.chapters.synthetic.runs import SyntheticConfig
from mfrbook.store import runs
from mfrbook.store.behaviour import BEHAVIOUR, marks
from mfrbook.store.provenance import PROJECT, provenance
from mfrbook.store.retired import build, complete
from mfrbook.store.runs import CHECKSUMS, Run, describe_config, read, run_key, write
from mfrbook.store.store import MissingRunsError, Store
from mfrlib.config import ConfigError, option, require_types
from mfrlib.environment import cache_folder


@dataclass(frozen=True, kw_only=True)
class Config:
    seed: int = option(0, "seed")
    rate: float = option(0.5, "rate")
    k: int | tuple[int, ...] = option(3, "k")
    log_every: int = option(10, "records", in_key=False)

    def __post_init__(self):
        require_types(self)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "archive", tmp_path / "cache")


def made(config=None, value=1.0):
    return Run(
        "synthetic",
        describe_config(config or Config()),
        "data",
        {"loss": [value, 0.1], "events": [(3, 1)], "none": None},
        [{"step": 0, "loss": [0.1, 1 / 3]}, {"step": 5, "loss": [0.2, 2.0], "penalty": 0.3}],
        {"rate": np.linspace(0, 1, 7, dtype=np.float32), "cluster": np.array([True, False])},
        {"weight": torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))},
        {"data_hash": "abc"},
    )


def put(store, config=None, value=1.0, **options):
    config = config or Config()
    return store.compute("synthetic", config, "data", lambda folder: made(config, value), **options)


def never(folder):
    pytest.fail("computed, though it was there")


class TestKey:
    def test_it_changes_with_experiment_data_and_every_field(self):
        keys = {
            run_key("synthetic", Config(), "data"),
            run_key("eeg", Config(), "data"),
            run_key("synthetic", Config(), "other"),
            run_key("synthetic", Config(seed=1), "data"),
            run_key("synthetic", Config(rate=0.25), "data"),
            run_key("synthetic", Config(k=4), "data"),
            run_key("synthetic", Config(k=(3, 3)), "data"),
        }
        assert len(keys) == 7
        assert all(len(key) == 16 and int(key, 16) >= 0 for key in keys)

    @pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(SyntheticConfig)])
    def test_it_changes_with_every_field_of_an_experiment_that_changes_results(self, field):
        """And with no other. Values are taken that differ from the default and are allowed."""
        others = {"k": 7, "alpha": 2.0, "calibration": "loss", "matching": "hungarian", "direction": "symmetric",
                  "reinit": "always", "inactivity_power": 3, "decoder": "raw", "activation": "relu",
                  "decoder_bias": True, "learning_rate_end": 0.5, "optimizer": "adam", "reduction": "sum", "device": "cpu", "decay": 0.5,
                  "floor_groups": True, "center": True, "compiled": True, "n_active": 5, "n_active_groups": 12, "n_groups": 13}  # fmt: skip
        config = SyntheticConfig()
        changed = replace(
            config, **{field: others.get(field, getattr(config, field) + 1 if field not in others else 0)}
        )
        free = {"log_every", "checkpoint_every", "device", "compiled"}
        same = run_key("synthetic", config, "x") == run_key("synthetic", changed, "x")
        assert same == (field in free)

    def test_a_new_option_or_a_new_default_orphans_nothing(self):
        @dataclass(frozen=True, kw_only=True)
        class Later(Config):
            bias: bool = option(False, "new")
            rate: float = option(0.75, "its default moved", introduced=0.5)

        old = run_key("synthetic", Config(seed=3), "data")
        assert run_key("synthetic", Later(seed=3, rate=0.5), "data") == old
        assert run_key("synthetic", Later(seed=3), "data") != old
        assert run_key("synthetic", Later(seed=3), "data") == run_key("synthetic", Config(seed=3, rate=0.75), "data")
        assert run_key("synthetic", Later(seed=3, rate=0.5, bias=True), "data") != old

    def test_numbers_are_keyed_by_value(self):
        assert run_key("synthetic", Config(rate=3), "data") == run_key("synthetic", Config(rate=3.0), "data")
        assert run_key("synthetic", build(Config, {"k": [3, 4]}), "d") == run_key("synthetic", Config(k=(3, 4)), "d")

    def test_archived_keys_are_those_of_today(self):
        entries = sorted((PROJECT / "book" / "results").glob(f"*/[!.]*/{CHECKSUMS}"))
        if not entries:
            pytest.skip("nothing is archived in book/results yet")
        for entry in entries:
            head = json.loads((entry.parent / "run.json").read_text())
            experiment = registry.load(head["experiment"])
            config = build(get_type_hints(experiment.run)["config"], head["config"])
            key = run_key(head["experiment"], config, head["data_id"])
            assert key == head["key"] == entry.parent.name, entry.parent
            read(entry.parent)


class TestRoundTrip:
    def test_what_is_computed_is_what_is_read(self, store):
        computed = put(store)
        loaded = store.compute("synthetic", Config(), "data", never)
        for run in (computed, loaded):
            expected = made()
            assert run.config == expected.config
            assert run.results == {"loss": [1.0, 0.1], "events": [[3, 1]], "none": None}
            assert run.metrics == [expected.metrics[0] | {"loss": [0.1, 0.333333333]}, expected.metrics[1]]
            assert run.key == run_key("synthetic", Config(), "data")
            assert torch.equal(run.weights["weight"], expected.weights["weight"])
            for name, array in expected.arrays.items():
                assert run.arrays[name].dtype == array.dtype
                np.testing.assert_array_equal(run.arrays[name], array)
        assert computed.provenance == loaded.provenance

    def test_a_retired_field_of_a_stored_config_is_left_out(self, store):
        """So that runs from before and after are compared as alike."""
        run = made()
        run.config["search"] = "fp32"
        store.compute("synthetic", Config(), "data", lambda folder: run)
        assert store.get("synthetic", Config(), "data").config == describe_config(Config())

    def test_records_hold_every_float32_there_is(self, store):
        bits = np.random.default_rng(0).integers(0, 2**32, 20_000, dtype=np.uint32)
        values = bits.view(np.float32)
        values = values[np.isfinite(values)]
        run = made()
        run.metrics = [{"step": 10**12 + 1, "loss": values.tolist()}]
        (kept,) = store.compute("synthetic", Config(), "data", lambda folder: run).metrics
        assert kept["step"] == 10**12 + 1
        np.testing.assert_array_equal(np.float32(kept["loss"]), values)

    def test_provenance_says_what_made_it(self, store):
        found = put(store).provenance
        assert {"commit", "dirty", "behaviour", "versions", "machine", "finished", "wall_seconds"} <= set(found)
        assert found["data_hash"] == "abc"  # what the experiment says of its data is kept
        assert found["behaviour"] == marks("synthetic")["behaviour"]
        number, _, _ = torch.__version__.partition("+")  # the build follows, which a package index may leave out
        assert found["versions"]["torch"].partition("+")[0] == number
        assert {"python", "numpy", "scipy", "mfrlib"} <= set(found["versions"])
        assert found["machine"]["threads"] >= 1
        assert found["wall_seconds"] >= 0
        json.dumps(found)

    def test_a_run_without_weights_is_whole(self, store, tmp_path):
        run, entry = made(), tmp_path / "synthetic" / ("0" * 16)
        run.weights, run.key = {}, entry.name
        write(run, entry)
        assert read(entry).weights == {}
        assert not (entry / "weights.safetensors").exists()

    def test_series(self, store):
        run = put(store)
        steps, values = run.series("loss")
        assert steps.tolist() == [0, 5]
        assert values.shape == (2, 2)
        assert run.series("penalty")[0].tolist() == [5]

    def test_nothing_is_pickled(self, store, tmp_path):
        run, entry = made(), tmp_path / "synthetic" / ("0" * 16)
        run.arrays["bad"], run.key = np.array([{"a": 1}], dtype=object), entry.name
        write(run, entry)
        with pytest.raises(ValueError, match="allow_pickle"):
            read(entry)

    def test_fresh_computes_again_and_replaces(self, store):
        put(store)
        assert put(store, value=2.0, fresh=True).results["loss"][0] == 2.0
        assert put(store, value=3.0).results["loss"][0] == 2.0

    def test_other_configs_do_not_disturb(self, store):
        put(store, Config(seed=1), 1.0)
        put(store, Config(seed=2), 2.0)
        assert put(store, Config(seed=1), 9.0).results["loss"][0] == 1.0
        assert {run.config["seed"] for run in store.all()} == {1, 2}


class TestRoots:
    def test_the_archive_is_read_and_the_cache_written_whose_newer_run_counts(self, tmp_path):
        put(Store(tmp_path / "archive"), value=1.0)
        store = Store(tmp_path / "archive", tmp_path / "cache")
        assert put(store, value=2.0).results["loss"][0] == 1.0
        assert put(store, value=2.0, fresh=True).results["loss"][0] == 2.0
        assert store.get("synthetic", Config(), "data").results["loss"][0] == 2.0
        assert Store(tmp_path / "cache").get("synthetic", Config(), "data").results["loss"][0] == 2.0
        assert [run.results["loss"][0] for run in store.all()] == [1.0]

    def test_a_run_of_today_s_behaviour_comes_before_a_stale_one_in_the_archive(self, tmp_path, monkeypatch):
        store = Store(tmp_path / "archive", tmp_path / "cache")
        with monkeypatch.context() as patch:
            patch.setitem(BEHAVIOUR, "synthetic", 0)
            put(Store(tmp_path / "archive"), value=1.0)
        assert store.get("synthetic", Config(), "data").stale
        assert put(store, value=2.0).results["loss"][0] == 1.0  # kept, unless asked for
        renewing = Store(*store.roots, renew=True)
        assert renewing.get("synthetic", Config(), "data") is None
        assert put(renewing, value=2.0).results["loss"][0] == 2.0
        assert store.get("synthetic", Config(), "data").results["loss"][0] == 2.0
        assert renewing.compute("synthetic", Config(), "data", never).results["loss"][0] == 2.0

    def test_the_default_roots(self, monkeypatch, tmp_path):
        assert Store().roots == [PROJECT / "book" / "results", cache_folder()]
        assert cache_folder() == tmp_path / "store"  # MFR_CACHE, set for every test
        monkeypatch.delenv("MFR_CACHE")
        assert cache_folder() == PROJECT / ".runs"

    def test_where_nothing_may_be_trained_what_is_missing_is_named(self, tmp_path):
        store = Store(tmp_path, trains=False)
        with pytest.raises(MissingRunsError) as raised:
            store.compute("synthetic", Config(seed=4, k=9), "data", never)
        assert run_key("synthetic", Config(seed=4, k=9), "data") in str(raised.value)
        assert "{'seed': 4, 'k': 9}" in str(raised.value)
        assert not list(tmp_path.iterdir())
        put(Store(tmp_path), Config(seed=4, k=9))
        assert store.compute("synthetic", Config(seed=4, k=9), "data", never).config["seed"] == 4


def without(text, name):
    """Take a file out of a list of checksums."""
    return json.dumps({file: one for file, one in json.loads(text).items() if file != name}).encode()


FILES = ("run.json", "metrics.jsonl.gz", "arrays.npz", "weights.safetensors", CHECKSUMS)


class TestDamage:
    @pytest.mark.parametrize("how", ["flip", "truncate", "empty", "delete"])
    @pytest.mark.parametrize("name", FILES)
    def test_any_damage_is_reported_and_the_run_computed_again(self, store, name, how):
        file = store.cache / "synthetic" / put(store).key / name
        whole = file.read_bytes()
        if how == "flip":
            middle = len(whole) // 2
            file.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        elif how == "delete":
            file.unlink()
        else:
            file.write_bytes(whole[: len(whole) // 2 if how == "truncate" else 0])
        with pytest.warns(UserWarning, match=rf"stored run .*{file.parent.name} is damaged and not used"):
            assert store.get("synthetic", Config(), "data") is None
        with pytest.warns(UserWarning, match="is damaged"):
            assert put(store, value=2.0).results["loss"][0] == 2.0
        assert store.compute("synthetic", Config(), "data", never).results["loss"][0] == 2.0

    def test_a_damaged_archive_does_not_hide_a_sound_run_in_the_cache(self, tmp_path):
        entry = tmp_path / "archive" / "synthetic" / put(Store(tmp_path / "archive")).key
        put(Store(tmp_path / "cache"), value=2.0)
        (entry / "metrics.jsonl.gz").write_bytes(b"")
        store = Store(tmp_path / "archive", tmp_path / "cache")
        with pytest.warns(UserWarning, match="is damaged"):
            assert store.get("synthetic", Config(), "data").results["loss"][0] == 2.0
        with pytest.warns(UserWarning, match="is damaged"):
            assert [run.results["loss"][0] for run in store.all()] == [2.0]

    @pytest.mark.parametrize(
        ("name", "spoil", "said"),
        [
            ("arrays.npz", lambda whole: b"no zip", "pickle"),
            ("arrays.npz", lambda whole: whole[:-9], "not a zip file"),
            ("arrays.npz", lambda whole: whole[:60] + b"????" + whole[64:], ""),
            ("metrics.jsonl.gz", lambda whole: whole[:-9], "ended before"),
            ("metrics.jsonl.gz", lambda whole: whole[:12] + b"????" + whole[16:], "decompressing"),
            ("weights.safetensors", lambda whole: b"junk", "header"),
            ("run.json", lambda whole: b"[]", ""),
            ("run.json", lambda whole: whole.replace(b'"experiment": "synthetic"', b'"experiment": "eeg"'), "eeg"),
            ("run.json", lambda whole: whole.replace(b'"key": "', b'"key": "f'), "is of synthetic f"),
            (CHECKSUMS, lambda whole: b"[]", r"must be an object, given \[\]"),
            (CHECKSUMS, lambda whole: without(whole, "run.json"), "does not list run.json"),
            (CHECKSUMS, lambda whole: without(whole, "arrays.npz"), "does not list arrays.npz"),
            (CHECKSUMS, lambda whole: without(whole, "metrics.jsonl.gz"), "does not list metrics.jsonl"),
        ],
    )
    def test_what_was_written_wrong_is_said_and_stops_no_other_run(self, store, name, spoil, said):
        """The checksums are those of the spoiled file."""
        put(store, Config(seed=1))
        entry = store.cache / "synthetic" / put(store).key
        (entry / name).write_bytes(spoil((entry / name).read_bytes()))
        if name != CHECKSUMS:
            sums = json.loads((entry / CHECKSUMS).read_text())
            sums[name] = hashlib.sha256((entry / name).read_bytes()).hexdigest()
            (entry / CHECKSUMS).write_text(json.dumps(sums))
        with pytest.raises(ValueError, match=f"^{name}: .*{said}"):
            read(entry)
        with pytest.warns(UserWarning, match=f"stored run {entry} is damaged and not used"):
            assert store.get("synthetic", Config(), "data") is None
        with pytest.warns(UserWarning, match="is damaged"):
            assert [run.config["seed"] for run in store.all()] == [1]

    def test_a_run_in_the_folder_of_another_is_not_taken_for_it(self, store):
        entry = store.cache / "synthetic" / put(store).key
        other = entry.with_name(run_key("synthetic", Config(seed=1), "data"))
        os.rename(entry, other)
        with pytest.raises(ValueError, match=rf"^run.json: is of synthetic {entry.name}"):
            read(other)
        with pytest.warns(UserWarning, match="is damaged"):
            assert store.get("synthetic", Config(seed=1), "data") is None

    def test_all_passes_over_what_is_half_written(self, store):
        put(store)
        leftover = store.cache / "synthetic" / ".writing-killed"
        leftover.mkdir()
        (leftover / CHECKSUMS).write_text("{")
        assert len(list(store.all())) == 1


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


def contents(folder):
    return {path.relative_to(folder) for path in Path(folder).rglob("*") if path.is_file()}


class TestWriting:
    """Whatever fails while a run is written: nothing half-written is read, finished runs stay, the error gets out."""

    def test_what_a_killed_process_had_half_written_goes_with_its_checkpoint(self, store, monkeypatch):
        place = store.cache / "unfinished"
        monkeypatch.setattr(runs.shutil, "rmtree", lambda *_, **__: None)  # a killed process clears up nothing
        monkeypatch.setattr(runs, "sha256", raising(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            put(store)
        assert [one.name[:9] for one in place.glob("*/.*")] == [".writing-"]
        monkeypatch.undo()
        put(store)
        assert not list(place.iterdir())
        assert len(list((store.cache / "synthetic").iterdir())) == 1

    @pytest.mark.parametrize("where", ["save_file", "sha256", "replace", "json"])
    @pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
    def test_a_failure_leaves_what_was_there(self, store, monkeypatch, where, error):
        fail, plain = raising(error), os.replace

        def fail_for_the_new(source, target):
            """Moving the old run aside and back works; moving the new one into its place does not."""
            fail() if ".writing-" in str(source) else plain(source, target)

        put(store)
        before = contents(store.cache / "synthetic")
        for config in (Config(), Config(seed=1)):
            with monkeypatch.context() as patch:
                if where == "replace":
                    patch.setattr(runs.os, "replace", fail_for_the_new)
                elif where == "json":
                    patch.setattr(runs.json, "dumps", fail)
                else:
                    patch.setattr(safetensors.torch if where == "save_file" else runs, where, fail)
                with pytest.raises(type(error)):
                    write(made(config, 2.0), store.cache / "synthetic" / run_key("synthetic", config, "data"))
        assert contents(store.cache / "synthetic") == before
        assert [run.results["loss"][0] for run in store.all()] == [1.0]

    def test_a_run_that_fails_is_no_run_and_keeps_its_checkpoint(self, store):
        def interrupted(folder):
            (folder / "checkpoint.safetensors").write_text("half way")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store.compute("synthetic", Config(), "data", interrupted)
        assert store.get("synthetic", Config(), "data") is None
        assert list(store.all()) == []

        def goes_on(folder):
            assert (folder / "checkpoint.safetensors").read_text() == "half way"
            return made()

        store.compute("synthetic", Config(), "data", goes_on)
        assert not list((store.cache / "unfinished").iterdir())

    @pytest.mark.parametrize("change", ["behaviour", "fresh"])
    def test_a_checkpoint_of_other_behaviour_or_of_a_run_begun_afresh_is_not_gone_on_with(
        self, store, monkeypatch, change
    ):
        def interrupted(folder):
            (folder / "checkpoint.safetensors").write_text("half way")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store.compute("synthetic", Config(), "data", interrupted)
        if change == "behaviour":
            monkeypatch.setitem(BEHAVIOUR, "synthetic", 99)

        def anew(folder):
            assert not (folder / "checkpoint.safetensors").exists()
            return made()

        store.compute("synthetic", Config(), "data", anew, fresh=change == "fresh")

    def test_no_write_permission_is_said(self, tmp_path):
        folder = tmp_path / "locked"
        folder.mkdir()
        folder.chmod(0o555)
        try:
            (folder / "probe").touch()
        except PermissionError:
            with pytest.raises(PermissionError, match=str(folder)):
                put(Store(folder))
        else:
            pytest.skip("this user may write everywhere")
        finally:
            folder.chmod(0o755)

    def test_a_store_below_a_file_is_refused_with_its_path(self, tmp_path):
        """What a missing permission is to others, this is to root as well."""
        (tmp_path / "file").touch()
        with pytest.raises(OSError, match=str(tmp_path / "file")):
            put(Store(tmp_path / "file" / "cache"))

    def test_stale_runs_are_shown_as_such(self, store, monkeypatch):
        run = put(store)
        assert not run.stale
        monkeypatch.setitem(BEHAVIOUR, "synthetic", 99)
        assert store.compute("synthetic", Config(), "data", never).stale


def test_provenance_outside_a_checkout_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr("mfrbook.store.provenance.PROJECT", tmp_path)
    assert provenance("synthetic")["commit"] is None


class TestAtTheSameTime:
    def test_threads_that_want_one_run_compute_it_once(self, store):
        calls, found = [], []

        def slow(folder):
            calls.append(folder)
            time.sleep(0.1)
            return made()

        def want():
            found.append(Store(*store.roots).compute("synthetic", Config(), "data", slow))

        threads = [threading.Thread(target=want) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(calls) == 1
        assert len(found) == 6
        assert not list((store.cache / "unfinished").iterdir())

    def test_runs_begun_afresh_take_turns(self, store):
        """Even if one waited while another finished and a third came after: never two in one folder."""
        inside, most, lock = [0], [0], threading.Lock()

        def slow(folder):
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            time.sleep(0.03)
            assert folder.is_dir()
            with lock:
                inside[0] -= 1
            return made()

        def want(number):
            time.sleep(0.02 * number)
            Store(*store.roots).compute("synthetic", Config(), "data", slow, fresh=True)

        threads = [threading.Thread(target=want, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert most == [1]
        assert inside == [0]
        assert len(list(store.all())) == 1

    @pytest.mark.slow
    def test_processes_that_want_one_run_compute_it_once(self, tmp_path):
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=_want, args=(tmp_path,)) for _ in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(120)
        assert [process.exitcode for process in processes] == [0, 0, 0]
        assert (tmp_path / "calls").read_text() == "x"


def _want(folder):
    def slow(_):
        with (folder / "calls").open("a") as file:
            file.write("x")
        time.sleep(1)
        return made()

    Store(folder / "cache").compute("synthetic", Config(), "data", slow)


def test_a_retired_field_is_read_where_it_changes_nothing_and_else_refused():
    assert build(Config, {"rate": 0.25, "search": "fp32"}) == Config(rate=0.25)
    with pytest.raises(ConfigError, match=r"search: is retired, and only 'fp32' or 'bf16' .* given 'fp64'"):
        build(Config, {"search": "fp64"})


def test_fields_that_came_after_a_run_have_what_they_were_introduced_with():
    @dataclasses.dataclass(frozen=True)
    class Config:
        steps: int = option(10, "steps")
        search: str = option("bytes", "how", introduced="fp32")

    old, new = complete(Config, {"steps": 5}), complete(Config, {"steps": 5, "search": "fp32", "retired": 1})
    assert old == new == {"steps": 5, "search": "fp32"}
