"""Every page reads an EDF file in the same way: its header is parsed once, and clipped windows are left out."""

import ast

import numpy as np
import pytest

from mfrbook.chapters.denoising.clean_recordings import clean_recordings
from mfrbook.chapters.eeg.recordings.labelled import labelled
from mfrbook.store.provenance import PROJECT
from mfrlib.data.eeg import header
from mfrlib.data.eeg.folder import open_eeg
from mfrlib.data.eeg.preprocessing import Preprocessing
from tests.library.data.eeg.edf_files import pink

pytest.importorskip("mne")
SECONDS, CLIPPED = 40, (3, 29)
"""Length of the recordings, and the seconds in which the first channel is clipped for a hundredth of a second."""


@pytest.fixture
def folder(write_edf, tmp_path):
    for i in range(4):
        signal = pink(2, 250 * SECONDS, seed=i)
        for second in CLIPPED:
            signal[0, 250 * second + 100 : 250 * second + 103] = 500
        path = tmp_path / "recordings" / f"Subject{i:02d}_1.edf"
        write_edf(path, ("Fp1", "O1"), rate=250, seconds=SECONDS, microvolts=signal, physical=199.0)
    return tmp_path / "recordings"


def shards(folder, cache):
    """Return the seconds of the held-out recording that are in its batches, counted over both channels."""
    source = open_eeg(folder, split="test", cache=cache, progress=False)
    return source.n_windows - SECONDS


def labels(folder, cache):
    source = open_eeg(folder, split="test", cache=cache, progress=False)
    (recording,) = labelled(source, Preprocessing())
    (block,) = recording.blocks()
    assert not block.usable[list(CLIPPED), 0].any()
    return int(block.usable[:, 0].sum())


def contests(folder, cache):
    (raw,) = clean_recordings(folder, Preprocessing(), 1, 60.0)
    return round(raw.n_times / 250)


@pytest.mark.parametrize(
    ("page", "expected"), [(shards, SECONDS - 2), (labels, SECONDS - 2), (contests, CLIPPED[1] - CLIPPED[0] - 1)]
)
def test_clipped_windows_are_left_out_whichever_page_reads_them(folder, tmp_path, page, expected):
    assert page(folder, tmp_path / "cache") == expected


def test_a_header_is_parsed_once_however_many_pages_read_the_file(folder, tmp_path, monkeypatch):
    made, plain = [], header.EDFHeader

    def counted(*values, **fields):
        made.append(plain(*values, **fields))
        return made[-1]

    monkeypatch.setattr(header, "EDFHeader", counted)
    for split in ("train", "test"):
        open_eeg(folder, split=split, cache=tmp_path / "cache", progress=False)
    for page in (shards, labels, contests):
        page(folder, tmp_path / "cache")
    assert len(made) == len(list(folder.iterdir()))


def test_a_file_that_was_written_again_is_read_again(folder, write_edf):
    path = next(folder.iterdir())
    before = header.read_header(path)
    write_edf(path, ("Fp1", "O1", "O2"), rate=250, seconds=SECONDS, microvolts=np.zeros((3, 250 * SECONDS)))
    assert len(header.read_header(path).labels) == len(before.labels) + 1


def test_there_is_no_other_way_to_a_file():
    users = set()
    for package in (PROJECT / "mfrlib", PROJECT / "book" / "mfrbook"):
        for path in package.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
                if name.startswith(("read_raw", "read_header")):
                    users.add(path.relative_to(PROJECT).as_posix())
    assert users == {"mfrlib/data/eeg/edf.py"}
