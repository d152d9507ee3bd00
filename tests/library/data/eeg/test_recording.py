import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, sosfreqz

from mfrlib.config import ConfigError
from mfrlib.data.eeg import recording as eeg_recording
from mfrlib.data.eeg.edf import EDF, open_edf
from mfrlib.data.eeg.electrodes import TEN_TWENTY, electrode
from mfrlib.data.eeg.header import EEGDataError
from mfrlib.data.eeg.preprocessing import Preprocessing, pick_eeg
from mfrlib.data.eeg.recording import Windows, import_mne, vectors, windows
from tests.library.data.eeg.edf_files import TUH, pink

mne = pytest.importorskip("mne")


def recording(microvolts, rate, names=("Fp1", "O1")):
    """Return an MNE `Raw` of signals given in µV."""
    return mne.io.RawArray(
        1e-6 * np.atleast_2d(microvolts),
        mne.create_info(list(names), rate, "eeg", verbose="ERROR"),
        verbose="ERROR",
    )


def whole(source, preprocessing):
    """Return all windows of a `Raw`, or of a file."""
    blocks = list(source.windows() if isinstance(source, EDF) else windows(source, preprocessing))
    return Windows(np.concatenate([b.volts for b in blocks]), np.concatenate([b.usable for b in blocks]))


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("EEG FP1-REF", "Fp1"),
        ("EEG FP2-LE", "Fp2"),
        ("EEG Fp1", "Fp1"),
        ("fz", "Fz"),
        ("EEG T3-REF", "T7"),
        ("T6", "P8"),
        ("Fc5.", "FC5"),
        ("C3-A2", "C3"),
        ("EEG FCZ", "FCz"),
        ("PO10", "PO10"),
    ],
)
def test_electrode_names(label, name):
    assert electrode(label) == name


NO_ELECTRODES = """EEG A2-A1,EEG A1-REF,M1,ECG ECG,EEG EKG1-REF,EKG,EOG,LOC,ROC-REF,EMG-REF,PHOTIC-REF,BURSTS
IBI,SUPPR,EEG 20-REF,EEG SP1-REF,Fp1-F7,EDF Annotations,,EEG,STATUS,P,C11,Fp1é"""


@pytest.mark.parametrize("label", NO_ELECTRODES.replace("\n", ",").split(","))
def test_other_channels_are_no_electrodes(label):
    assert electrode(label) is None


def test_pick_eeg_orders_joint_channels_and_names_what_is_missing():
    shuffled = [*reversed(TUH), "EKG1"]
    assert list(pick_eeg(shuffled).values()) == [electrode(label) for label in reversed(TUH)]
    assert tuple(pick_eeg(shuffled, Preprocessing(channels="joint")).values()) == TEN_TWENTY
    with pytest.raises(ValueError, match="no electrode T7, P8,"):
        pick_eeg([x for x in TUH if "T3" not in x and "T6" not in x], Preprocessing(channels="joint"))
    with pytest.raises(ValueError, match="'T3' and 'EEG T7-LE' are both electrode T7"):
        pick_eeg(["T3", "EEG T7-LE"])
    with pytest.raises(ValueError, match="no EEG channel among"):
        pick_eeg(["ECG", "EOG"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"channels": "jiont"}, "channels: must be one of 'single', 'joint', given 'jiont'"),
        ({"rate": 90}, "rate: must be over"),
        ({"rate": 10**6}, "rate"),
        ({"rate": 250.5}, "rate: must be int"),
        ({"low": 0}, "low"),
        ({"low": 50.0}, "low"),
        ({"high": float("nan")}, "low"),
        ({"high": float("inf")}, "rate"),
        ({"order": 0}, "order"),
        ({"order": True}, "order"),
        ({"seconds": 0.0001}, "seconds"),
        ({"seconds": 1.001}, "seconds"),
        ({"seconds": float("nan")}, "seconds"),
        ({"flat": -1.0}, "flat"),
        ({"electrodes": ("Cz", "Cz")}, "electrodes"),
        ({"electrodes": ("T3",)}, "electrodes"),
        ({"electrodes": ()}, "electrodes"),
    ],
)
def test_impossible_settings_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        Preprocessing(**values)


def test_labels_tell_settings_apart():
    assert Preprocessing().label == "single:250Hz:0.5-45Hz"
    joint = Preprocessing(channels="joint", electrodes=("Cz", "Pz"), seconds=2.0)
    assert joint.label == "joint:128Hz:0.5-45Hz:seconds=2:electrodes=Cz+Pz"
    assert joint.d_in == 2 * 256
    assert (Preprocessing().d_in, Preprocessing(channels="joint").d_in) == (250, 19 * 128)


@pytest.mark.parametrize("frequency", [0.1, 0.5, 1, 10, 30, 45, 60, 100])
def test_the_filter_is_the_squared_butterworth_response_without_phase(frequency):
    rate, seconds = 500, 120
    t = np.arange(rate * seconds) / rate
    raw = recording([100 * np.sin(2 * np.pi * frequency * t), 100 * np.cos(2 * np.pi * frequency * t)], rate)
    volts = whole(raw, Preprocessing()).volts[20:-20] * 1e6 / 100
    # Gain along and across the tone: what is across would be a phase shift.
    at = 2 * np.pi * frequency * (20 + np.arange(volts.shape[0] * 250) / 250)
    sine = volts[:, 0].ravel()
    along, across = 2 * np.mean(sine * np.sin(at)), 2 * np.mean(sine * np.cos(at))
    sections = butter(5, [0.5, 45], btype="bandpass", output="sos", fs=rate)
    gain = np.abs(sosfreqz(sections, [frequency], fs=rate)[1][0]) ** 2
    assert along == pytest.approx(gain, abs=2e-3)
    assert across == pytest.approx(0, abs=2e-3)


@pytest.mark.parametrize("rate", [100, 128, 200, 250, 256, 400, 499.907, 512, 1000, 2048])
@pytest.mark.parametrize("target", [128, 250])
def test_resampling_keeps_the_signal_and_its_time(rate, target):
    t = np.arange(int(rate * 30)) / rate
    tone = recording([50 * np.sin(2 * np.pi * 10 * t), 50 * np.sin(2 * np.pi * 3 * t)], rate)
    found = whole(tone, Preprocessing(rate=target)).volts * 1e6
    assert found.shape == (len(t) / rate // 1, 2, target)
    at = np.arange(found.shape[0] * target) / target
    inner = slice(5 * target, -5 * target)
    np.testing.assert_allclose(found[:, 0].ravel()[inner], 50 * np.sin(2 * np.pi * 10 * at)[inner], atol=1.0)
    np.testing.assert_allclose(found[:, 1].ravel()[inner], 50 * np.sin(2 * np.pi * 3 * at)[inner], atol=1.0)


def test_stretches_have_no_seams(monkeypatch):
    raw = recording(pink(2, 256 * 180), 256)
    one = whole(raw, Preprocessing())
    monkeypatch.setattr(eeg_recording, "_BLOCK_VALUES", 2 * 256 * 25)
    blocks = list(windows(raw, Preprocessing()))
    assert len(blocks) > 6
    np.testing.assert_allclose(np.concatenate([b.volts for b in blocks]), one.volts, atol=1e-10)


def test_stretches_keep_time_to_a_sample_at_an_odd_rate(monkeypatch):
    rate = 499.907
    t = np.arange(int(rate * 180)) / rate
    monkeypatch.setattr(eeg_recording, "_BLOCK_VALUES", int(rate * 25))
    volts = whole(recording(np.sin(2 * np.pi * 10 * t), rate, ["Cz"]), Preprocessing(flat=0.0)).volts * 1e6
    phase = np.angle(np.mean(volts[5:-5, 0] * np.exp(-2j * np.pi * 10 * np.arange(250) / 250), axis=-1)) + np.pi / 2
    assert np.abs(phase).max() < 2 * np.pi * 10 / rate


def test_vectors_have_mean_0_and_standard_deviation_1():
    raw = recording(pink(19, 250 * 20), 250, TEN_TWENTY)
    single, joint = Preprocessing(), Preprocessing(channels="joint", rate=250)
    cut = whole(raw, single)
    rows = vectors(cut, single)
    assert rows.shape == (20 * 19, 250)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(rows.std(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(vectors(cut, joint), rows.reshape(20, 19 * 250))


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(0.5, 50), shift=st.floats(-1000, 1000))
def test_scale_and_offset_of_a_recording_do_not_matter(scale, shift):
    signal = pink(2, 250 * 8)
    rows = [
        vectors(whole(recording(x, 250), Preprocessing()), Preprocessing()) for x in (signal, scale * signal + shift)
    ]
    np.testing.assert_allclose(rows[0], rows[1], atol=2e-3)


def test_flat_held_and_clipped_windows_are_dropped():
    signal = pink(4, 250 * 20)
    signal[0, 250 * 10 :] *= 0.01  # electrode off: noise of the amplifier
    signal[1, 250 * 5 : 250 * 7] = 3.0  # padding
    signal[2] = np.clip(8 * signal[2], -60, 60)  # clipped, but never for long
    signal[2, 250 * 15 + 50 : 250 * 15 + 130] = 60  # saturated for 0.32 s
    raw = recording(signal, 250, ("Fp1", "O1", "O2", "Cz"))
    usable = whole(raw, Preprocessing()).usable
    assert usable[:10, 0].all()
    assert not usable[13:, 0].any()
    assert np.flatnonzero(~usable[:, 1]).tolist() == [5, 6]
    assert np.flatnonzero(~usable[:, 2]).tolist() == [15]
    assert usable[:, 3].all()
    joint = Preprocessing(channels="joint", electrodes=("Cz", "O1"))
    cut = whole(raw, joint)
    assert len(vectors(cut, joint)) == 18
    assert len(vectors(whole(recording(0 * signal[:1], 250, ["Cz"]), Preprocessing()), Preprocessing())) == 0


def test_short_clipping_at_the_limit_of_the_converter_drops_the_window(write_edf, tmp_path):
    signal = pink(3, 2560)
    signal[0, 1000:1003] = 500  # three samples, a hundredth of a second, beyond the file's 199 µV
    signal[0, 2000:2003] = -500
    signal[1, 1000:1002] = 500  # two: a peak may look like that
    path = write_edf(tmp_path / "clipped.edf", ("Fp1", "O1", "EKG1"), microvolts=signal, physical=199.0)
    limits = open_edf(path, Preprocessing()).limits
    assert limits == {name: pytest.approx((-199e-6, 199e-6)) for name in ("Fp1", "O1")}
    (block,) = open_edf(path, Preprocessing()).windows()
    assert np.flatnonzero(~block.usable[:, 0]).tolist() == [3, 7]
    assert block.usable[:, 1].all()


def test_a_range_written_upside_down_clips_at_the_same_values(write_edf, tmp_path):
    signal = pink(3, 2560)
    signal[0, 1000:1004] = 500
    path = write_edf(tmp_path / "flipped.edf", microvolts=signal, physical=199.0)
    data = bytearray(path.read_bytes())
    at = 256 + 3 * (16 + 80 + 8)  # physical minima, then maxima, of three signals
    data[at : at + 8], data[at + 24 : at + 32] = data[at + 24 : at + 32], data[at : at + 8]
    path.write_bytes(data)
    limits = open_edf(path, Preprocessing()).limits
    assert limits["Fp1"] == pytest.approx((-199e-6, 199e-6))
    (block,) = open_edf(path, Preprocessing()).windows()
    assert np.flatnonzero(~block.usable[:, 0]).tolist() == [3]


def test_samples_that_are_not_finite_are_refused_with_their_channel():
    signal = pink(2, 250 * 8)
    signal[1, 100] = np.nan
    with pytest.raises(EEGDataError, match="channels O1 have samples that are not finite"):
        list(windows(recording(signal, 250), Preprocessing()))


@pytest.mark.parametrize(("unit", "per_unit"), [("uV", 1.0), ("mV", 1e-3), ("V", 1e-6)])
def test_volts_come_out_whatever_the_unit_of_the_file(write_edf, tmp_path, unit, per_unit):
    path = write_edf(tmp_path / "a.edf", unit=unit, per_unit=per_unit)
    from_file = whole(open_edf(path, Preprocessing()), Preprocessing()).volts
    direct = whole(recording(pink(3, 2560)[:2], 256), Preprocessing()).volts
    np.testing.assert_allclose(from_file, direct, atol=2e-8)  # two steps of a 16-bit converter


def test_upper_case_suffix_and_channel_order(write_edf, tmp_path):
    labels = (*reversed(TUH), "EEG EKG1-REF")
    joint = Preprocessing(channels="joint", rate=256)
    cut = whole(open_edf(write_edf(tmp_path / "A.EDF", labels), joint), joint).volts
    assert cut.shape == (10, 19, 256)
    direct = whole(recording(pink(20, 2560)[18::-1], 256, TEN_TWENTY), Preprocessing(rate=256)).volts
    np.testing.assert_allclose(cut, direct, atol=2e-8)


def test_without_mne_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mne", None)
    with pytest.raises(ImportError, match=r"pip install 'mfrlib\[eeg\]'"):
        import_mne()
