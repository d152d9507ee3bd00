from dataclasses import replace

import pytest

from mfrbook.chapters.eeg import runs as eeg
from mfrbook.chapters.eeg.recordings.eegbci import fetch_eegbci
from mfrlib.config import ConfigError
from mfrlib.data.eeg.header import EEGDataError

pytest.importorskip("mne")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Return the folder where MNE has EEGBCI, with nothing in it; nothing is fetched."""
    pooch = pytest.importorskip("pooch")

    def refuse(*_, **__):
        raise ConnectionError("no network in tests")

    monkeypatch.setattr(pooch.Pooch, "fetch", refuse)
    monkeypatch.setenv("MNE_DATASETS_EEGBCI_PATH", str(tmp_path))
    return tmp_path / "MNE-eegbci-data" / "files" / "eegmmidb" / "1.0.0"


def test_without_a_network_the_error_says_what_to_do(here):
    with pytest.raises(
        EEGDataError, match=r"EEGBCI: cannot be fetched \(ConnectionError: no network.*give another folder"
    ):
        fetch_eegbci(2)


def test_impossible_numbers_of_subjects_are_refused_before_anything_is_fetched():
    for number in (0, 110):
        with pytest.raises(ConfigError, match="subjects: must be 1 to 109"):
            fetch_eegbci(number)
        with pytest.raises(ConfigError, match="subjects: must be 1 to 109"):
            eeg.configure({"data": "eegbci", "subjects": number})


def test_files_that_are_there_are_used_and_those_of_further_subjects_are_not(here, write_edf):
    for subject in range(1, 6):
        for run in (1, 2):
            path = here / f"S{subject:03d}" / f"S{subject:03d}R{run:02d}.edf"
            write_edf(path, ("Fc5.", "Cz..", "O1.."), rate=160, seed=10 * subject + run)
    config = eeg.configure({"data": "eegbci", "subjects": 4, "batch_size": 16}, "smoke")
    assert eeg.data_id(config).startswith("eeg:own:single:250Hz:0.5-45Hz:train:sha256:")
    assert eeg.data_id(config) != eeg.data_id(replace(config, subjects=5))
    train, test = (eeg.open_split(config, split) for split in ("train", "test"))
    assert train.id == eeg.data_id(config)
    assert sorted(train.subjects + test.subjects) == ["S001", "S002", "S003", "S004"]
    assert train.n_windows == 3 * 2 * 3 * 10
