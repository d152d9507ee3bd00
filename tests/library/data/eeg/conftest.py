"""EDF files for the tests of EEG: written by edfio, another EDF library than the one that reads them."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.library.data.eeg.edf_files import pink


@pytest.fixture
def write_edf():
    """Return a function that writes an EDF file: `write_edf(path, labels=TUH, rate=256, seconds=10, …)`."""
    edfio = pytest.importorskip("edfio")

    def write(
        path: Path,
        labels=("EEG FP1-REF", "EEG O1-REF", "EKG1"),
        rate: float = 256,
        seconds: int = 10,
        *,
        seed: int = 0,
        microvolts: np.ndarray | None = None,
        unit: str = "uV",
        per_unit: float = 1.0,
        physical: float = 200.0,
        annotations=None,
    ) -> Path:
        signals = microvolts if microvolts is not None else pink(len(labels), round(rate * seconds), seed)
        signals = [
            edfio.EdfSignal(
                np.clip(x, -199, 199) * per_unit,
                rate,
                label=label,
                physical_dimension=unit,
                physical_range=(-physical * per_unit, physical * per_unit),
            )
            for label, x in zip(labels, signals, strict=True)
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        edfio.Edf(signals, annotations=annotations).write(path)
        return path

    return write


@pytest.fixture(scope="session")
def eegmat() -> Path:
    """Return the folder of 48 real recordings."""
    folder = Path(os.environ.get("MFR_DATA", "/nowhere")) / "eeg" / "eegmat"
    if not folder.is_dir():
        pytest.skip("needs real recordings: set MFR_DATA to a folder with eeg/eegmat/*.edf")
    return folder
