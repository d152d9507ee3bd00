import numpy as np
import pytest

from mfrbook.chapters.eeg.recordings.labelled import labelled
from mfrbook.chapters.eeg.recordings.simulation import simulated_eeg
from mfrlib.data.eeg.folder import open_eeg
from mfrlib.data.eeg.preprocessing import Preprocessing
from tests.library.data.eeg.edf_files import pink

pytest.importorskip("mne")


def again(source, preprocessing):
    """Return what `labelled` gives as one array, as the source gives it."""
    return np.concatenate([block.vectors for one in labelled(source, preprocessing) for block in one.blocks()])


@pytest.mark.parametrize("channels", ["single", "joint"])
def test_the_same_vectors_as_in_the_batches(write_edf, tmp_path, channels):
    for i in range(3):
        signal = pink(2, 2560, seed=i)
        signal[0, 512:1024] = 7.0  # two windows of one channel are of no use
        write_edf(tmp_path / "few" / f"Subject{i:02d}_1.edf", ("Fp1", "O1"), microvolts=signal)
    electrodes = ("Fp1", "O1")
    preprocessing = Preprocessing(channels=channels, electrodes=electrodes)
    source = open_eeg(tmp_path / "few", preprocessing, held_out=0, cache=tmp_path / "cache", progress=False)
    np.testing.assert_array_equal(
        again(source, preprocessing), np.concatenate([batch.numpy() for batch in source.iterate()])
    )
    first = next(labelled(source, preprocessing))
    assert first.electrodes == electrodes
    (block,) = first.blocks()
    fp1 = block.window[block.channel == 0]
    assert {2, 3}.isdisjoint(fp1)
    assert {0, 1, 5, 6, 7, 8, 9} <= set(fp1)
    if channels == "single":
        assert block.window[block.channel == 1].tolist() == list(range(10))
        # Vectors know their window and channel: scaled back, they are the volts of that place.
        volts = block.volts[block.window, block.channel]
        scaled = (volts - volts.mean(-1, keepdims=True)) / volts.std(-1, keepdims=True)
        np.testing.assert_allclose(block.vectors, scaled, atol=1e-5)


def test_simulated_recordings_come_again_too():
    source = simulated_eeg(n_subjects=3, seconds=8.0, split="test")
    np.testing.assert_array_equal(
        again(source, Preprocessing()), np.concatenate([batch.numpy() for batch in source.iterate()])
    )


def test_no_more_recordings_are_opened_than_asked_for():
    source = simulated_eeg(n_subjects=3, seconds=8.0)
    assert len(list(labelled(source, Preprocessing(), at_most=1))) == 1
