"""EEGBCI, public recordings that MNE fetches from PhysioNet: 109 subjects, a minute with open and one with closed eyes."""

from pathlib import Path

from mfrlib.config import require
from mfrlib.data.eeg.header import EEGDataError
from mfrlib.data.eeg.recording import import_mne

N_SUBJECTS = 109
RUNS = (1, 2)
"""Baseline with open eyes, baseline with closed eyes."""


def fetch_eegbci(n_subjects: int) -> tuple[Path, list[str]]:
    """Return where the first subjects' recordings lie, fetched by `mne.datasets.eegbci` where they are not there yet.

    They lie where MNE's setting `MNE_DATASETS_EEGBCI_PATH` says, by default in `~/mne_data`.

    Parameters
    ----------
    n_subjects : int
        1 to 109; 2.6 MB each.

    Returns
    -------
    folder : Path
        The folder of the data set.
    names : list of str
        Files below it, `S001/S001R01.edf` and so on.

    Raises
    ------
    ConfigError
        If there are not that many subjects.
    EEGDataError
        If a file is not there and cannot be fetched.
    """
    require(1 <= n_subjects <= N_SUBJECTS, "subjects", n_subjects, f"must be 1 to {N_SUBJECTS}")
    subjects = list(range(1, n_subjects + 1))
    import_mne()
    from mne.datasets import eegbci

    try:
        paths = eegbci.load_data(subjects, list(RUNS), update_path=False, verbose="ERROR")
    except Exception as error:
        why = f"cannot be fetched ({type(error).__name__}: {error}). Without a network, put the files below "
        why += "MNE_DATASETS_EEGBCI_PATH, or give another folder as data"
        raise EEGDataError({"EEGBCI": why}) from error
    folder = Path(paths[0]).parent.parent
    return folder, [Path(path).relative_to(folder).as_posix() for path in paths]
