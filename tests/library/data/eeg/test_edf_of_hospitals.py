"""EDF files as hospitals and amplifiers write them: what can be read without guessing is read, and positions are never guessed."""

import warnings

import numpy as np
import pytest

from mfrbook.chapters.denoising import runs as denoising
from mfrbook.chapters.denoising.clean_recordings import clean_recordings
from mfrlib.data.eeg.edf import open_edf
from mfrlib.data.eeg.folder import open_eeg
from mfrlib.data.eeg.header import ANNOTATIONS, EEGDataError, read_header
from mfrlib.data.eeg.preprocessing import Preprocessing, pick_eeg

edfio = pytest.importorskip("edfio")
pytest.importorskip("mne")

LABELS = ("EEG FP1-REF", "EEG O1-REF", "EKG1")


def patched(path, *fields):
    data = bytearray(path.read_bytes())
    for offset, text in fields:
        data[offset : offset + len(text)] = text
    path.write_bytes(data)
    return path


def signal(path):
    return np.concatenate([one.volts for one in open_edf(path, Preprocessing()).windows()])


class TestReferences:
    @pytest.mark.parametrize(
        ("labels", "electrodes"),
        [
            (["EEG Fp1-CPz", "EEG Fp2-CPz", "EEG C3-CPz", "EOG-CPz"], ["Fp1", "Fp2", "C3"]),  # ANT Neuro
            (["EEG C3-CLE", "EEG C4-CLE", "ECG I"], ["C3", "C4"]),  # MASS
            (["EEG C3-CLE", "EEG A2-CLE"], ["C3"]),
            (["EEG Fp1 - Ref", "EEG C3 - Ref"], ["Fp1", "C3"]),
            (["C3/A2", "C4/A1", "E1/A2"], ["C3", "C4"]),
            (["EEG C3:M2", "EEG O1:M2"], ["C3", "O1"]),
            (["C3-Cz", "C4-Cz"], ["C3", "C4"]),
            (["EEG Fp1-Cz", "EEG C3-Cz", "EEG Cz"], ["Fp1", "C3"]),  # the reference has a channel, which is flat
            (["Fp1/CPz", "C3/CPz"], ["Fp1", "C3"]),
            (["EEG Fp1:CLE", "EEG C3:CLE"], ["Fp1", "C3"]),
            (["EEG Fp1-A1+A2", "EEG C3-A1+A2"], ["Fp1", "C3"]),
            (["Fp1-(A1+A2)/2", "C3-(A1+A2)/2"], ["Fp1", "C3"]),
            (["EEG-Fp1", "EEG_C3", "EEG: O1-REF", "EEG-A1"], ["Fp1", "C3", "O1"]),
            (["Fp1.", "Fp2.", "A1", "A2", "E1", "E2"], ["Fp1", "Fp2"]),  # ears, and eyes of a sleep recording
        ],
    )
    def test_one_reference_whatever_it_is_called(self, labels, electrodes):
        assert list(pick_eeg(labels).values()) == electrodes

    @pytest.mark.parametrize(
        "labels",
        [
            ["Fp1-F7", "F7-T3", "T3-T5"],  # a chain
            ["EEG Fpz-Cz", "EEG Pz-Oz"],  # Sleep-EDF
            ["C3-Cz"],  # one channel may be either
            ["EEG C3-CLE", "EEG C4-LER"],  # two references
            ["ECG I", "Resp-Ref"],
            ["Fp1_1", "C3_1"],  # a number is no place
        ],
    )
    def test_derivations_are_no_electrodes(self, labels):
        with pytest.raises(ValueError, match="no EEG channel"):
            pick_eeg(labels)

    def test_beside_plain_electrodes_derivations_fall_away_as_before(self):
        assert list(pick_eeg(["C3", "C4", "F3-C3", "F4-C3"]).values()) == ["C3", "C4"]

    def test_a_file_of_such_labels_is_used(self, write_edf, tmp_path):
        path = write_edf(tmp_path / "eego.edf", ("EEG Fp1-CPz", "EEG O1-CPz"))
        assert open_edf(path, Preprocessing()).electrodes == {"EEG Fp1-CPz": "Fp1", "EEG O1-CPz": "O1"}
        assert signal(path).shape[1] == 2


class TestOtherSystems:
    def test_places_that_the_10_10_system_does_not_have_are_no_electrodes(self):
        have = ["AF9", "F10", "FT7", "FC6", "T10", "CP5", "TP9", "P10", "PO3", "POz", "O2", "Iz", "Nz", "Fpz", "T1"]
        lack = ["Fp3", "FT3", "FC7", "TP5", "CP9", "O3", "I7", "N2", "Tz", "FT11", "F0"]
        assert list(pick_eeg([*lack, *have]).values()) == have

    @pytest.mark.parametrize(
        "labels",
        [
            [f"{letter}{number}" for letter in "ABCD" for number in range(1, 33)],  # BioSemi, 128 channels
            [f"EEG {letter}{number}" for letter in "ABCDEFGH" for number in range(1, 33)],
            [f"{letter}{number}-REF" for letter in "ABC" for number in range(1, 9)],
            ["C3", "C7", "C8"],  # the 10–10 system has no C7
            ["Fz", "C3", "C4", *[f"B{number}" for number in range(1, 11)]],  # depth electrodes beside some of the scalp
            [f"A{number}" for number in range(1, 33)],
            ["C1", "C9", "C17"],
        ],
    )
    def test_positions_are_never_guessed(self, labels):
        with pytest.raises(
            ValueError, match=r"labels of another system than 10–20, (A3|B1|C7|C9).*positions are not guessed"
        ):
            pick_eeg(labels)

    def test_the_10_10_system_is_not_taken_for_one(self):
        names = ["F9", "F10", "C1", "C2", "C3", "C4", "C5", "C6", "F1", "F2", "P9", "P10", "Cz", "A1", "A2"]
        assert len(pick_eeg(names)) == 13


class TestNumberOfRecords:
    @pytest.mark.parametrize("count", [b"-1      ", b"-1\0\0\0\0\0\0"])
    def test_an_unknown_number_is_that_of_the_file(self, write_edf, tmp_path, count):
        whole = signal(write_edf(tmp_path / "whole.edf"))
        path = patched(write_edf(tmp_path / "unknown.edf"), (236, count))
        assert read_header(path).n_records == 10
        assert np.array_equal(signal(path), whole)

    def test_a_record_that_was_being_written_is_none(self, write_edf, tmp_path):
        path = patched(write_edf(tmp_path / "unknown.edf"), (236, b"-1      "))
        whole = signal(path)
        path.write_bytes(path.read_bytes()[:-100])
        assert read_header(path).n_records == 9
        assert signal(path).shape[0] == 9
        assert np.allclose(signal(path)[:5], whole[:5], rtol=0.2, atol=1e-6)
        path.write_bytes(path.read_bytes()[:1100])
        with pytest.raises(EEGDataError, match="truncated: not one whole data record"):
            read_header(path)

    def test_a_version_padded_with_zeros(self, write_edf, tmp_path):
        path = patched(write_edf(tmp_path / "nul.edf"), (0, b"0" + bytes(7)))
        assert np.array_equal(signal(path), signal(write_edf(tmp_path / "plain.edf")))

    @pytest.mark.parametrize("count", [b"-2      ", b"9       ", b"11      "])
    def test_a_wrong_one_is_still_refused(self, write_edf, tmp_path, count):
        with pytest.raises(EEGDataError):
            read_header(patched(write_edf(tmp_path / "wrong.edf"), (236, count)))


class TestDiscontinuous:
    @pytest.fixture
    def annotated(self, write_edf, tmp_path):
        return write_edf(tmp_path / "d.edf", annotations=[edfio.EdfAnnotation(1, None, "é")])

    def test_records_without_a_gap_are_read(self, annotated):
        whole = signal(annotated)
        assert b"EDF+C" in annotated.read_bytes()[:256]
        assert np.array_equal(signal(patched(annotated, (192, b"EDF+D"))), whole)

    def test_a_gap_is_named(self, annotated):
        data = annotated.read_bytes()
        moved = data.replace(b"+4\x14\x14", b"+5\x14\x14")
        assert moved != data
        annotated.write_bytes(moved)
        with pytest.raises(EEGDataError, match="data record 4 begins at 5 s instead of 4 s"):
            open_edf(patched(annotated, (192, b"EDF+D")), Preprocessing())

    def test_records_that_do_not_say_when_they_begin(self, annotated, write_edf, tmp_path):
        plain = patched(write_edf(tmp_path / "plain.edf"), (192, b"EDF+D"))
        with pytest.raises(EEGDataError, match="do not say when they begin"):
            open_edf(plain, Preprocessing())
        annotated.write_bytes(annotated.read_bytes().replace(b"+4\x14\x14", b"\0\0\0\0"))
        with pytest.raises(EEGDataError, match="beginning of data record 4"):
            open_edf(patched(annotated, (192, b"EDF+D")), Preprocessing())

    def test_signals_without_samples_are_refused(self, annotated):
        none = 256 * 5 - 32 * 4 - 8 * 4  # the field of the first of four signals, of which the last is text
        assert read_header(annotated).labels[3:] == (ANNOTATIONS,)
        empty = patched(annotated, (192, b"EDF+D"), (236, b"-1      "), (none, b"0       " * 3))
        with pytest.raises(EEGDataError, match="no signal has a sample in a data record"):
            read_header(empty)


class TestFolders:
    @pytest.fixture
    def folder(self, write_edf, tmp_path):
        for i in range(4):
            write_edf(tmp_path / "sleep" / f"SC40{i}-PSG.edf", rate=250, seconds=20, seed=i)
        for i in range(4):
            notes = [edfio.EdfAnnotation(0, 30, "Sleep stage W")]
            edfio.Edf([], annotations=notes).write(tmp_path / "sleep" / f"SC40{i}-Hypnogram.edf")
        return tmp_path / "sleep"

    def test_files_of_annotations_are_passed_over(self, folder, tmp_path):
        assert set(read_header(folder / "SC400-Hypnogram.edf").labels) == {ANNOTATIONS}
        sides = [open_eeg(folder, cache=tmp_path / "cache", progress=False, split=split) for split in ("train", "test")]
        assert sorted(name for side in sides for name in side.recordings) == [f"SC40{i}-PSG.edf" for i in range(4)]

    def test_a_denoiser_is_tested_on_the_subjects_that_are_held_out(self, folder, tmp_path):
        held_out = open_eeg(folder, cache=tmp_path / "cache", progress=False, split="test").recordings
        (raw,) = clean_recordings(folder, Preprocessing(), 4, 60.0)
        assert len(held_out) == 1
        assert raw.n_times >= 10 * 250

    def test_nothing_else_is_no_data(self, folder):
        for path in folder.glob("*PSG*"):
            path.unlink()
        with pytest.raises(EEGDataError, match="annotations only, no signal"):
            open_eeg(folder, progress=False)

    def test_the_refusal_names_the_way_out(self, folder, tmp_path):
        (folder / "SC409-PSG.edf").write_bytes(b"0       cut short")
        with pytest.raises(EEGDataError, match="readable_only=true leaves out what cannot be used"):
            open_eeg(folder, progress=False)
        with pytest.warns(UserWarning, match="SC409"):
            open_eeg(folder, cache=tmp_path / "cache", progress=False, readable_only=True)

    def test_denoising_takes_that_way_too(self, folder, tmp_path):
        (folder / "SC409-PSG.edf").write_bytes(b"0       cut short")
        values = {"data": str(folder), "eye_movements": ""}
        config = denoising.configure({**values, "readable_only": True}, "smoke")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert denoising.training_windows(config).n_windows
        assert len(denoising.test_recordings(config)) == 1
        with pytest.raises(EEGDataError, match="readable_only=true"):
            denoising.test_recordings(denoising.configure(values, "smoke"))

    def test_a_denoiser_s_recordings_are_checked_before_it_is_trained(self, write_edf, tmp_path, monkeypatch):
        monkeypatch.setattr(denoising, "train", lambda *_, **__: pytest.fail("trained"))
        for i in range(4):
            write_edf(tmp_path / f"S00{i + 1}R01.edf", rate=250, seconds=8, seed=i)  # shorter than a test needs
        config = denoising.configure({"data": str(tmp_path), "eye_movements": ""}, "smoke")
        from mfrbook.store.store import Store

        with pytest.raises(EEGDataError, match="fewer than 10 s"):
            denoising.run(config, Store(tmp_path / "runs"), progress=False)
