import dataclasses
import os
import re
import resource
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mfrbook.chapters.eeg import readings as eeg_readings
from mfrbook.chapters.eeg import tables
from mfrbook.experiments.planned import Profile
from mfrlib.config import ConfigError
from mfrlib.data.eeg.edf import EDF
from mfrlib.data.eeg.folder import N_THREADS, held_out_subjects, identity_of_windows, open_eeg, usable_recordings
from mfrlib.data.eeg.header import EEGDataError
from mfrlib.data.eeg.listing import identity_of, scan
from mfrlib.data.eeg.preprocessing import Preprocessing
from mfrlib.data.eeg.windows import shuffled
from tests.library.data.eeg.edf_files import TUH

pytest.importorskip("mne")


@pytest.fixture
def folder(write_edf, tmp_path):
    """Return a folder of four subjects, five recordings of 10 s, two EEG channels each."""
    names = [f"Subject0{subject}_1" for subject in range(4)] + ["Subject02_2"]
    for seed, name in enumerate(names):
        write_edf(tmp_path / "small" / f"{name}.edf", seed=seed)
    return tmp_path / "small"


@pytest.fixture
def open_small(folder, tmp_path):
    def opened(preprocessing=None, **options):
        return open_eeg(folder, preprocessing, cache=tmp_path / "cache", progress=False, **options)

    return opened


def test_scan_finds_recordings_at_any_depth_and_their_subjects(tmp_path):
    subject_of = {
        "a/000/aaaaaaaa/s001_2015/01_tcp_ar/aaaaaaaa_s001_t000.edf": "aaaaaaaa",
        "a/000/aaaaaaaa/s002_2016/02_tcp_le/aaaaaaaa_s002_t001.EDF": "aaaaaaaa",
        "b/00000258_s001_t000.edf": "00000258",
        "Subject00_1.edf": "Subject00",
        "Subject00_2.edf": "Subject00",
        "S001/S001R01.edf": "S001",
        "sub-07/eeg/sub-07_task-rest_eeg.edf": "sub-07",
        "ward/anna/night.edf": "ward/anna",
        "ward/anna/day.edf": "ward/anna",
        "own.edf": "own",
    }
    for name in [*subject_of, ".hidden.edf", "notes.txt", "x.edf.bak"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = scan(tmp_path)
    assert {recording.name: recording.subject for recording in found} == subject_of
    assert [recording.name for recording in found] == sorted(subject_of)


def test_a_folder_without_recordings_is_refused(tmp_path):
    with pytest.raises(EEGDataError, match="no EDF file"):
        scan(tmp_path)
    with pytest.raises(EEGDataError, match="absent: cannot be read"):
        open_eeg(tmp_path / "absent")


def test_every_bad_file_is_named_and_left_out_only_on_request(folder, open_small):
    (folder / "empty.edf").touch()
    cut = folder / "cut.edf"
    cut.write_bytes((folder / "Subject00_1.edf").read_bytes()[:-1000])
    with pytest.raises(EEGDataError) as caught:
        open_small()
    assert set(caught.value.problems) == {str(folder / "empty.edf"), str(cut)}
    assert "truncated" in str(caught.value)
    with pytest.warns(UserWarning, match=r"left out:\n.*cut.edf: truncated.*\n.*empty.edf: truncated"):
        train = open_small(readable_only=True)
    with pytest.warns(UserWarning, match="left out"):
        test = open_small(readable_only=True, split="test")
    assert len(train.subjects) + len(test.subjects) == 4


@pytest.mark.parametrize("kind", ["dangling", "pipe"])
def test_what_cannot_even_be_opened_is_left_out_on_request(folder, open_small, kind):
    before = open_small().id
    path = folder / "other.edf"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("nowhere")
    with pytest.raises(EEGDataError, match="readable_only=true leaves out"):
        open_small()
    with pytest.warns(UserWarning, match="left out"):
        assert open_small(readable_only=True).id == before


def test_names_that_are_no_unicode_and_folders_that_move_are_no_obstacle(folder, tmp_path, monkeypatch):
    os.rename(folder / "Subject00_1.edf", os.fsencode(folder) + b"/r\xe9sum\xe9.edf")
    monkeypatch.chdir(tmp_path)
    source = open_eeg("small", cache="cache", progress=False)
    monkeypatch.chdir("/")
    assert source.batch(0).shape == (1024, 250)
    with pytest.raises(ConfigError, match="only: must be a list"):
        open_eeg(folder, only="Subject00_1.edf", progress=False)
    for names in (["nobody.edf"], ["Subject01_1.edf", "nobody.edf"]):
        with pytest.raises(ConfigError, match=r"unknown recording 'nobody\.edf'"):
            open_eeg(folder, only=names, progress=False)


def test_readings_leave_the_joint_one_out_of_recordings_that_lack_an_electrode(folder, monkeypatch):
    monkeypatch.setattr(
        eeg_readings, "PROFILES", {"smoke": Profile({"steps": 3, "batch_size": 16, "n_features": 64}, 1)}
    )
    with pytest.warns(UserWarning, match="R17, all channels jointly.*is left out:(?s:.*)no electrode"):
        (rows,) = eeg_readings.collect("smoke", values={"data": str(folder)})
    assert [reading for reading, _ in rows] == ["default", "R19"]
    assert tables.readings([rows])["d_in"].tolist() == [250, 250]


def test_files_with_clashing_channels_are_named(write_edf, folder, tmp_path):
    for name in ("Subject08_1", "Subject09_1"):
        write_edf(folder / f"{name}.edf", TUH)
    joint = Preprocessing(channels="joint")
    with pytest.raises(EEGDataError) as caught:
        open_eeg(folder, joint, cache=tmp_path / "cache", progress=False)
    assert len(caught.value.problems) == 5
    assert "Subject00_1.edf: no electrode Fp2, F7" in str(caught.value)
    with pytest.warns(UserWarning, match="left out"):
        source = open_eeg(folder, joint, cache=tmp_path / "cache", readable_only=True, progress=False)
    assert source.batch(0).shape == (1024, 19 * 128)
    assert source.n_windows == 10
    two = dataclasses.replace(joint, electrodes=("O1", "Fp1"))
    assert open_eeg(folder, two, cache=tmp_path / "cache", progress=False).d_in == 256


def test_recordings_that_are_flat_throughout_are_named(write_edf, folder, open_small):
    write_edf(folder / "Subject07_1.edf", ("Fp1",), microvolts=np.zeros((1, 2560)))
    with pytest.raises(EEGDataError, match=r"Subject07_1\.edf: no usable window"):
        open_small(held_out=0)


def test_subjects_are_on_one_side_only(open_small):
    for seed in range(5):
        train, test = (open_small(split=split, split_seed=seed) for split in ("train", "test"))
        assert set(train.subjects).isdisjoint(test.subjects)
        assert len(test.subjects) == 1
        assert len(train.recordings) + len(test.recordings) == 5
        assert train.n_windows + test.n_windows == 5 * 10 * 2
    assert len(open_small(held_out=0).subjects) == 4
    assert len({open_small(split="test", split_seed=seed).subjects for seed in range(8)}) > 1


def test_impossible_splits_are_refused(open_small):
    for options, message in (
        ({"split": "tset"}, "split: must be one of 'train', 'test', given 'tset'"),
        ({"held_out": 1.0}, "held_out"),
        ({"held_out": 0.99}, "leaves nobody to train on"),
        ({"held_out": 0, "split": "test"}, "at least one window"),
        ({"batch_size": 0}, "batch_size"),
        ({"seed": -1}, "seed"),
    ):
        with pytest.raises(ConfigError, match=message):
            open_small(**options)


@settings(deadline=None)
@given(n=st.integers(2, 200), fraction=st.floats(0.01, 0.6), seed=st.integers(0, 9))
def test_held_out_is_the_fraction_asked_for(n, fraction, seed):
    names = {f"s{i}" for i in range(n)}
    if max(1, round(fraction * n)) < n:
        chosen = held_out_subjects(names, fraction, seed)
        assert chosen < names
        assert len(chosen) == max(1, round(fraction * n))


@settings(deadline=None)
@given(n=st.integers(1, 5000), seed=st.integers(0, 2**40), epoch=st.integers(0, 2**40))
def test_shuffled_is_a_permutation(n, seed, epoch):
    order = shuffled(np.arange(n), n, seed, epoch)
    assert np.array_equal(np.sort(order), np.arange(n))
    if n > 100:
        assert not np.array_equal(order, shuffled(np.arange(n), n, seed, epoch + 1))
        assert not np.array_equal(order, shuffled(np.arange(n), n, seed + 1, epoch))


def test_shuffled_looks_random():
    """Order, neighbours, parity and fixed points are uncorrelated, within four standard errors."""
    n = 20_000
    for epoch in range(5):
        order = shuffled(np.arange(n), n, 0, epoch)
        assert abs(np.corrcoef(order, np.arange(n))[0, 1]) < 4 / np.sqrt(n)
        assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 4 / np.sqrt(n)
        assert (order == np.arange(n)).sum() < 8
        parity = np.corrcoef(order % 2, np.arange(n) % 2)[0, 1]
        assert abs(parity) < 4 / np.sqrt(n)


def test_a_batch_depends_on_seed_and_step_only(open_small):
    source, again = open_small(batch_size=16), open_small(batch_size=16)
    late = again.batch(7)
    for step in range(7):
        source.batch(step)
    assert torch.equal(source.batch(7), late)
    assert late.dtype == torch.float32
    assert late.shape == (16, source.d_in) == (16, 250)
    assert not torch.equal(open_small(batch_size=16, seed=1).batch(7), late)


def test_an_epoch_visits_every_window_once(open_small):
    source = open_small(batch_size=7)
    everything = torch.cat(list(source.iterate(batch_size=13)))
    assert len(everything) == source.n_windows
    steps = source.n_windows  # seven epochs, whose ends fall inside batches
    rows = torch.cat([source.batch(step) for step in range(steps)]).view(7, source.n_windows, 250)
    assert source.epochs(steps) == 7
    expected = sorted(map(tuple, everything.tolist()))
    for epoch in rows:
        assert sorted(map(tuple, epoch.tolist())) == expected
    assert not torch.equal(rows[0], rows[1])
    assert open_small(batch_size=3 * source.n_windows).batch(0).shape[0] == 3 * source.n_windows


def test_the_identity_is_declared_and_the_hash_is_of_the_bytes(write_edf, folder, open_small):
    source = open_small()
    assert identity_of_windows("small", Preprocessing(), "train") == "eeg:small:single:250Hz:0.5-45Hz:train"
    assert source.id == identity_of_windows(identity_of(folder), Preprocessing(), "train")
    assert re.fullmatch("eeg:own:single:250Hz:0.5-45Hz:train:sha256:[0-9a-f]{16}", source.id)
    assert identity_of_windows("x", Preprocessing(), "test", 0.5).endswith(":test:held-out=0.5:split-seed=0")
    recording = folder / source.recordings[0]
    write_edf(recording, seed=99)
    changed = open_small()
    assert changed.id != source.id
    assert changed.hash != source.hash
    assert not torch.equal(changed.batch(0), source.batch(0))


def test_recordings_are_preprocessed_once(open_small, monkeypatch):
    first = open_small().batch(0)

    def refuse(*_):
        raise AssertionError("read again")

    monkeypatch.setattr(EDF, "windows", refuse)
    assert torch.equal(open_small().batch(0), first)
    with pytest.raises(AssertionError, match="read again"):
        open_small(Preprocessing(low=1.0))


def cut_short(shard):
    shard.write_bytes(shard.read_bytes()[:-4])


def flip_a_bit(shard):
    data = bytearray(shard.read_bytes())
    data[1234] ^= 1
    shard.write_bytes(data)


def garble_the_note(shard):
    shard.with_suffix(".json").write_text("{")


def empty_the_note(shard):
    shard.with_suffix(".json").write_text("[]")


def remove(shard):
    shard.unlink()


@pytest.mark.parametrize("damage", [cut_short, flip_a_bit, garble_the_note, empty_the_note, remove])
def test_a_damaged_shard_is_reported_and_made_again(open_small, tmp_path, damage):
    first = open_small()
    before = torch.cat(list(first.iterate()))
    damage(first.shards[0].path)
    with pytest.warns(UserWarning, match="is damaged .* and made again"):
        again = open_small()
    assert torch.equal(torch.cat(list(again.iterate())), before)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_small()
    assert not list((tmp_path / "cache").glob(".writing-*"))


def test_a_shard_that_shrinks_while_it_is_used_is_reported(open_small):
    source = open_small()
    os.truncate(source.shards[0].path, 4000)
    with pytest.raises(EEGDataError, match=f"{source.shards[0].recording}: its shard .* was cut short"):
        list(source.iterate())


def test_an_interrupted_preprocessing_leaves_no_half_shard(open_small, tmp_path, monkeypatch):
    def interrupted(*_):
        yield from ()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(EDF, "windows", interrupted)
        with pytest.raises(KeyboardInterrupt):
            open_small()
    assert list((tmp_path / "cache").iterdir()) == []
    assert open_small().n_windows > 0


def test_a_cache_that_cannot_be_written_is_an_error_of_the_cache(folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        open_eeg(folder, cache=tmp_path / "file" / "cache", progress=False)


def test_the_cache_lies_below_mfr_cache(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MFR_CACHE", str(tmp_path / "runs"))
    open_eeg(folder, progress=False)
    assert len(list((tmp_path / "runs" / "eeg-windows").glob("*.f32"))) > 0


def test_memory_does_not_grow_with_the_number_of_recordings(write_edf, tmp_path):
    def peak(n_files):
        folder = tmp_path / str(n_files)
        for i in range(n_files):
            write_edf(folder / f"Subject{i:02d}_1.edf", TUH, seconds=20, seed=i)
        tracemalloc.start()
        source = open_eeg(folder, cache=tmp_path / "cache", batch_size=64, progress=False)
        for step in range(20):
            source.batch(step)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(2)  # imports
    few, many = peak(3), peak(18)
    assert many < 1.1 * few


def test_a_tree_as_tuh_eeg_comes(write_edf, tmp_path):
    """Nested folders, two montages, mixed sampling rates, channels that are no EEG; a short file is left out by request."""
    tree = tmp_path / "edf" / "000"
    names = [label.removeprefix("EEG ").removesuffix("-REF") for label in TUH]
    for i, (subject, montage, suffix, rate) in enumerate(
        [
            ("aaaaaaaa", "01_tcp_ar", "REF", 250),
            ("aaaaaaaa", "02_tcp_le", "LE", 256),
            ("aaaaaaab", "02_tcp_le", "LE", 400),
            ("aaaaaaac", "03_tcp_ar_a", "REF", 512),
        ]
    ):
        folder = tree / subject / f"s00{i}_2015" / montage
        labels = [f"EEG {name}-{suffix}" for name in names] + ["EEG EKG1-REF", f"EEG A1-{suffix}", "PHOTIC-REF"]
        write_edf(folder / f"{subject}_s00{i}_t000.edf", labels, rate=rate, seed=i)
    write_edf(tree / "aaaaaaad" / "s001_2015" / "01_tcp_ar" / "aaaaaaad_s001_t001.edf", TUH, seconds=2)
    for channels, n in (("single", 4 * 19 * 10), ("joint", 4 * 10)):
        options = {"cache": tmp_path / "cache", "progress": False, "held_out": 0, "readable_only": True}
        with pytest.warns(UserWarning, match=r"aaaaaaad_s001_t001\.edf: lasts 2 s"):
            source = open_eeg(tmp_path / "edf", Preprocessing(channels=channels), **options)
        assert source.subjects == ("aaaaaaaa", "aaaaaaab", "aaaaaaac")
        assert source.n_windows == n


def test_thousands_of_headers_take_few_open_files_and_little_memory(write_edf, tmp_path):
    """A folder of hard links to a file that cannot be used: all are looked at, each named, none read beyond its header."""
    short = write_edf(tmp_path / "short.edf", seconds=3)
    n = 2_000
    for i in range(n):
        place = tmp_path / "many" / f"{i // 100:03d}"
        place.mkdir(parents=True, exist_ok=True)
        os.link(short, place / f"aaaa{i:04d}_s001_t000.edf")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(os.listdir("/proc/self/fd"))
    tracemalloc.start()
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 2 * N_THREADS, before[1]))
    try:
        found = scan(tmp_path / "many")
        scanned = tracemalloc.get_traced_memory()[1]
        with pytest.raises(EEGDataError) as caught:
            open_eeg(tmp_path / "many", cache=tmp_path / "cache", progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert len(found) == len({one.subject for one in found}) == len(caught.value.problems) == n
    assert scanned < 5e6
    assert most < 20e6  # the reasons, and what waits for a thread


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="needs /proc, as on Linux")
def test_headers_are_all_that_scanning_reads(write_edf, tmp_path):
    def bytes_read():
        return int(Path("/proc/self/io").read_text().split()[1])

    def scan(folder):
        usable, problems = usable_recordings(folder, Preprocessing())
        assert [one.name for one in usable] == ["a.edf", "b.edf"]
        assert not problems

    for folder in ("first", "second"):
        for name in ("a.edf", "b.edf"):
            write_edf(tmp_path / folder / name, seconds=200)
    scan(tmp_path / "first")  # imports all that is imported late
    before = bytes_read()
    scan(tmp_path / "second")
    assert bytes_read() - before < (tmp_path / "second" / "a.edf").stat().st_size / 4


def test_real_recordings(eegmat, tmp_path):
    """24 people, at rest and at arithmetic; the two seconds of padding that end each file are left out."""
    train, test = (open_eeg(eegmat, split=split, cache=tmp_path, progress=False) for split in ("train", "test"))
    assert (len(train.subjects), len(test.subjects)) == (18, 6)
    assert len(train.recordings) == 36
    seconds = (train.n_windows + test.n_windows) / 19
    assert (
        seconds == sum((path.stat().st_size - 5888) // (2 * (21 * 500 + 57)) for path in eegmat.glob("*.edf")) - 2 * 48
    )
    batch = train.batch(3)
    assert batch.shape == (1024, 250)
    torch.testing.assert_close(batch.mean(dim=1), torch.zeros(1024), atol=1e-5, rtol=0)
    torch.testing.assert_close(batch.std(dim=1, correction=0), torch.ones(1024), atol=1e-5, rtol=0)
    # Eyes closed, occipital rhythm: alpha outweighs what is beside it.
    tapered = torch.cat(list(test.iterate())) * torch.hann_window(250)
    spectrum = torch.fft.rfft(tapered).abs().square().mean(dim=0)
    assert spectrum[8:13].mean() > 3 * spectrum[15:20].mean()
    assert spectrum[60:].sum() < 1e-3 * spectrum.sum()


def test_real_recordings_joint(eegmat, tmp_path):
    files = sorted(eegmat.glob("Subject0[0-3]_2.edf"))
    for file in files:
        (tmp_path / "few" / file.name).parent.mkdir(exist_ok=True)
        (tmp_path / "few" / file.name).symlink_to(file)
    source = open_eeg(tmp_path / "few", Preprocessing(channels="joint"), cache=tmp_path / "cache", progress=False)
    assert source.n_windows == 3 * 60
    assert source.batch(0).shape == (1024, 2432)
