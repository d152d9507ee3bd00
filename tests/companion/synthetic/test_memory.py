"""Data larger than memory: training under a limit on address space that its data would not fit into."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mfrbook.store.provenance import PROJECT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc, as on Linux"),
]

CHILD = """
import json, mmap, resource, sys
import torch

given = json.loads(sys.argv[1])

def limit(megabytes):
    "Leave so much address space to what follows, and prove it on a piece one and a half times as large."
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * 2**20,) * 2)
    try:
        mmap.mmap(-1, 3 * megabytes * 2**19)
    except OSError:
        return
    raise SystemExit("the limit does not hold")

def peak():
    "Return the most megabytes that were resident. (ru_maxrss would begin with those of the process that started this one.)"
    status = dict(line.split(":") for line in open("/proc/self/status"))
    return int(status["VmHWM"].split()[0]) / 1024
"""


def child(code: str, **given: object) -> dict:
    """Run code in a process and return the JSON that it prints. (Of one thread: others' stacks take address space.)"""
    variables = os.environ | {"PYTHONPATH": os.pathsep.join([str(PROJECT), str(PROJECT / "book")])}
    line = [sys.executable, "-c", CHILD + code, json.dumps(given)]
    done = subprocess.run(line, cwd=PROJECT, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


# The paper's sizes (§3.2): 10,000 samples of 256 dimensions a step, two SAEs of 512 features.
SYNTHETIC = """
from pathlib import Path
from mfrbook.chapters.synthetic import runs as synthetic
from mfrbook.store.store import Store

def run(steps, seed):
    config = synthetic.configure({"steps": steps, "batch_size": 10_000, "seed": seed, "alpha": 3.0, "device": "cpu"}, "published")
    found = synthetic.run(config, Store(Path(given["store"])), progress=False)
    return 4 * config.d_in * found.results["samples"] / 2**20
"""


def test_synthetic_runs_take_a_fraction_of_the_memory_of_their_data_and_no_more_for_more_of_them(tmp_path):
    code = """
run(1, 0)  # loads all that is loaded late
limit(300)
run(25, 1)
few, data = peak(), run(100, 2)
print(json.dumps({"few": few, "many": peak(), "data": data}))
"""
    found = child(SYNTHETIC + code, store=str(tmp_path))
    assert found["data"] > 3 * 300
    assert found["many"] < 1500  # the bound for a hundred million examples, which is ten thousand such steps
    # In plain PyTorch the heap still settles after the first steps.
    assert found["many"] - found["few"] < 0.1 * found["data"]


def repeated(source: Path, target: Path, times: int) -> None:
    """Write an EDF file whose data records are another one's, over and over."""
    whole = source.read_bytes()
    start, n_records = int(whole[184:192]), int(whole[236:244])
    with target.open("wb") as file:
        file.write(whole[:236] + f"{n_records * times:<8d}".encode() + whole[244:start])
        for _ in range(times):
            file.write(whole[start:])


@pytest.fixture
def hours(tmp_path):
    """Return a function that makes a folder: one recording of so many hours, and so many of an hour."""
    edfio = pytest.importorskip("edfio")
    pytest.importorskip("mne")
    from mfrlib.data.eeg.electrodes import TEN_TWENTY

    noise = np.random.default_rng(0).normal(0, 20, (len(TEN_TWENTY), 60 * 256)).clip(-199, 199)
    signals = [
        edfio.EdfSignal(x, 256, label=f"EEG {name}-REF", physical_dimension="uV", physical_range=(-200, 200))
        for name, x in zip(TEN_TWENTY, noise, strict=True)
    ]
    minute = tmp_path / "minute.edf"
    edfio.Edf(signals).write(minute)

    def make(name: str, long: int, short: int) -> str:
        folder = tmp_path / name
        folder.mkdir()
        if long:
            repeated(minute, folder / "long.edf", 60 * long)
        if short:
            repeated(minute, tmp_path / "hour.edf", 60)
        for number in range(short):
            os.link(tmp_path / "hour.edf", folder / f"short{number:02d}.edf")
        return str(folder)

    return make


EEG = """
import dataclasses
from mfrlib.data.eeg.folder import open_eeg
from mfrbook.chapters.eeg import runs as eeg
from mfrlib.training.loop import train

def use(folder):
    source = open_eeg(folder, held_out=0, cache=given["cache"], progress=False)
    config = eeg.configure({"steps": 20, "n_features": 256, "device": "cpu", "data": folder, "alpha": 1.0}, "published")
    train(config, source, progress=False)
    windows = sum(len(x) for x in source.iterate())
    assert windows == source.n_windows
    return 4 * source.d_in * windows / 2**20

use(given["small"])  # loads all that is loaded late
"""


def test_a_folder_of_eeg_larger_than_memory_is_preprocessed_and_trained_on(hours, tmp_path):
    folders = {"small": hours("small", 0, 1), "large": hours("large", 18, 11)}
    code = """
limit(1000)
print(json.dumps({"data": use(given["large"])}))
"""
    data = child(EEG + code, cache=str(tmp_path / "cache"), **folders)["data"]
    assert data > 1.8 * 1000
    assert data * 18 / 29 > 1000  # one recording alone would not fit
