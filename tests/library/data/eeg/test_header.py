import os
import signal
from contextlib import contextmanager

import numpy as np
import pytest

from mfrlib.data.eeg.edf import open_edf
from mfrlib.data.eeg.header import EEGDataError, read_header
from mfrlib.data.eeg.preprocessing import Preprocessing
from mfrlib.data.eeg.recording import vectors

edfio = pytest.importorskip("edfio")
pytest.importorskip("mne")

# Where a field of the header lies: (offset, width); per-signal fields for the first signal of three.
LABEL, UNIT, PHYSICAL_MAX, DIGITAL_MAX, N_SAMPLES = (256, 16), (544, 8), (592, 8), (640, 8), (904, 8)
VERSION, N_BYTES, RESERVED, N_RECORDS, RECORD_SECONDS, N_SIGNALS = (
    (0, 8), (184, 8), (192, 44), (236, 8), (244, 8), (252, 4),
)  # fmt: skip


def put(path, field, text):
    offset, width = field
    data = bytearray(path.read_bytes())
    data[offset : offset + width] = text.encode("latin-1").ljust(width)
    path.write_bytes(data)
    return path


def test_a_header_says_what_edfio_says(write_edf, tmp_path):
    path = write_edf(tmp_path / "a.edf", rate=256, seconds=10)
    header, theirs = read_header(path), edfio.read_edf(path)
    assert header.labels == theirs.labels
    assert (header.n_records, header.record_seconds) == (theirs.num_data_records, theirs.data_record_duration)
    assert header.seconds == theirs.duration == 10
    assert [header.rate(i) for i in range(3)] == [signal.sampling_frequency for signal in theirs.signals]
    assert header.physical == tuple(signal.physical_range for signal in theirs.signals)
    assert header.digital == tuple(signal.digital_range for signal in theirs.signals)


@pytest.mark.parametrize(
    ("field", "text", "reason"),
    [
        (VERSION, "\xffBIOSEMI", "not an EDF file"),
        (N_BYTES, "1280", "header length is 1280 bytes, but 3 signals need"),
        (N_BYTES, "many", "header length is b'many"),
        (RESERVED, "EDF+D", "discontinuous"),
        (N_RECORDS, "-2", "number of data records is b'-2"),
        (N_RECORDS, "0", "at least 1"),
        (N_RECORDS, "99999999", "truncated"),
        (N_RECORDS, "3", "longer than its header says"),
        (RECORD_SECONDS, "0", "must be positive"),
        (RECORD_SECONDS, "nan", "finite number"),
        (RECORD_SECONDS, "1e999", "finite number"),
        (N_SIGNALS, "9999", "header length"),
        (N_SIGNALS, "0", "number of signals"),
        (N_SIGNALS, "²", "number of signals"),
        (N_SAMPLES, "99999999", "a data record has"),
        (N_SAMPLES, "1_0", "samples per record of signal 0"),
        (PHYSICAL_MAX, "inf", "physical maximum of signal 0"),
        (PHYSICAL_MAX, "-200", "empty range"),
        (PHYSICAL_MAX, "2e6", "beyond 1 V"),
        (DIGITAL_MAX, "-32768", "empty range"),
        (UNIT, "nV", "'EEG FP1-REF' has unit 'nV', known are"),
        (UNIT, "", "unit ''"),
        (LABEL, "EEG O1-LE", "both electrode O1"),
        (RECORD_SECONDS, "100", "sampling rate"),
        (RECORD_SECONDS, "1e-5", "at most 20000 Hz"),
    ],
)
def test_a_wrong_header_is_refused_with_the_reason(write_edf, tmp_path, field, text, reason):
    path = put(write_edf(tmp_path / "wrong.edf"), field, text)
    with pytest.raises(EEGDataError) as caught:
        open_edf(path, Preprocessing())
    assert list(caught.value.problems) == [str(path)]
    assert reason in caught.value.problems[str(path)]


@pytest.mark.parametrize("n_bytes", [0, 100, 256, 700, 1024, 5000])
def test_a_truncated_file_is_refused(write_edf, tmp_path, n_bytes):
    path = write_edf(tmp_path / "cut.edf")
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(EEGDataError, match="truncated"):
        read_header(path)


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.edf")
    (tmp_path / "folder.edf").mkdir()
    for name in ("pipe.edf", "folder.edf", "missing.edf"):
        with pytest.raises(EEGDataError, match=name):
            read_header(tmp_path / name)


def test_electrodes_at_different_rates_and_short_or_slow_recordings_are_refused(write_edf, tmp_path):
    slow = write_edf(tmp_path / "slow.edf", rate=90)
    short = write_edf(tmp_path / "short.edf", seconds=3)
    signals = [
        edfio.EdfSignal(np.sin(np.arange(10 * rate)), rate, label=label, physical_dimension="uV")
        for label, rate in (("Fp1", 256), ("O1", 128))
    ]
    edfio.Edf(signals).write(tmp_path / "mixed.edf")
    for path, reason in (
        (slow, "90 Hz"),
        (short, "lasts 3 s"),
        (tmp_path / "mixed.edf", "different sampling rates"),
    ):
        with pytest.raises(EEGDataError, match=reason):
            open_edf(path, Preprocessing())
    assert open_edf(write_edf(tmp_path / "b.edf", rate=100, seconds=4), Preprocessing())


def test_two_references_in_one_file_are_refused(write_edf, tmp_path):
    with pytest.raises(
        EEGDataError, match=r"mixed\.edf: channels with different references in one file: 'EEG FP1-REF', 'EEG O1-LE'"
    ):
        open_edf(write_edf(tmp_path / "mixed.edf", ("EEG FP1-REF", "EEG O1-LE")), Preprocessing())
    for labels in (("Fp1-A1", "Fp2-A2"), ("Fp1", "O1"), ("EEG FP1-LE", "EEG O1-LE", "EEG EKG1-REF")):
        assert open_edf(write_edf(tmp_path / "one.edf", labels), Preprocessing())


def test_names_with_accents(write_edf, tmp_path):
    path = write_edf(tmp_path / "Chloé Müller" / "Schlaf-öß 夜.edf")
    assert len(list(open_edf(path, Preprocessing()).windows())) == 1
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(EEGDataError, match=r"Chloé Müller.*öß 夜\.edf: truncated"):
        open_edf(path, Preprocessing()).windows()


def test_header_text_in_latin_1_is_read(write_edf, tmp_path):
    path = put(write_edf(tmp_path / "jose.edf"), (8, 80), "X M 02-MAY-1951 José_Núñez")
    put(path, UNIT, "µV")
    assert next(open_edf(path, Preprocessing()).windows()).volts.std() < 1e-3


@pytest.fixture(params=["written", "recorded"])
def sound(request, write_edf, tmp_path):
    """Return the bytes of a sound file: one that edfio writes, with annotations, and ten seconds of a real recording."""
    if request.param == "written":
        annotations = [edfio.EdfAnnotation(t, None, "event é") for t in range(9)]
        return write_edf(tmp_path / "sound.edf", annotations=annotations).read_bytes()
    path = request.getfixturevalue("eegmat") / "Subject01_2.edf"
    header = read_header(path)
    data = bytearray(path.read_bytes()[: header.n_bytes + 10 * 2 * sum(header.n_samples)])
    data[236:244] = b"10      "
    return bytes(data)


@contextmanager
def no_longer_than(seconds):
    """Fail what hangs."""

    def fail(*_):
        raise AssertionError(f"still running after {seconds} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.slow
def test_mutated_files_give_an_error_or_vectors(sound, tmp_path):
    """Bytes of header, body and annotations are changed, dropped, added: nothing else may come out, and nothing hangs."""
    path = tmp_path / "mutated.edf"
    n_header = int(sound[184:192])
    draws = np.random.default_rng(0)
    refusals, n_trials = [], 240
    for trial in range(n_trials):
        path.write_bytes(_mutated(sound, n_header if trial % 3 < 2 else len(sound), draws))
        try:
            with no_longer_than(60):
                for block in open_edf(path, Preprocessing()).windows():
                    assert np.isfinite(vectors(block, Preprocessing())).all()
        except EEGDataError as error:
            refusals.append(str(error))
    assert all(message.startswith(f"{path}: ") for message in refusals)
    assert n_trials / 5 < len(refusals) < n_trials


def _mutated(sound, reach, draws):
    data = bytearray(sound)
    for _ in range(draws.integers(1, 6)):
        at = int(draws.integers(0, reach))
        kind = draws.integers(0, 6)
        if kind == 0:
            del data[at : at + int(draws.integers(1, 20))]
        elif kind == 1:
            data[at:at] = draws.bytes(int(draws.integers(1, 20)))
        elif kind == 2:
            field = at // 8 * 8
            data[field : field + 8] = draws.choice([b"99999999", b"-1      ", b"1e300   ", b"        ", b"0       "])
        elif kind == 3:
            data[at : at + 4] = b"\0\0\0\0"
        else:
            data[at : at + 1] = draws.choice([b"0", b"9", b"-", b".", b" ", b"\xff", b"+", b"D", b","])
    return bytes(data)
