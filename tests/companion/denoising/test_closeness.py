"""Measures of how close a denoised recording is to the clean one."""

import numpy as np
import pytest

from mfrbook.chapters.denoising.closeness import BANDS, measure
from mfrlib.config import ConfigError

RATE = 250.0


def signals(seed=0):
    return np.random.default_rng(seed).standard_normal((3, 5000))


def test_perfection_nothing_and_silence():
    x = signals()
    y = x + signals(1)
    perfect, nothing, silent = (measure(x, y, one, RATE) for one in (x, y, np.zeros_like(x)))
    assert perfect["rrmse_t"] == perfect["rrmse_s"] == perfect["delta"] == 0
    assert perfect["correlation"] == pytest.approx(1)
    assert perfect["snr_gain"] > 100
    assert nothing["snr_gain"] == 0
    assert nothing["rrmse_t"] == pytest.approx(1, abs=0.05)
    assert silent["rrmse_t"] == silent["rrmse_s"] == 1
    assert silent["correlation"] == 0
    assert silent["alpha"] == 60
    assert np.isnan(measure(x, x, y, RATE)["snr_gain"])


def test_twice_the_amplitude_is_six_decibels_in_every_band():
    x = signals()
    found = measure(x, x + 1, 2 * x, RATE)
    assert [found[band] for band in BANDS] == pytest.approx([20 * np.log10(2)] * 5)
    assert found["rrmse_t"] == pytest.approx(1)
    assert found["rrmse_s"] == pytest.approx(3)
    assert found["correlation"] == pytest.approx(1)


def test_measures_do_not_depend_on_the_unit():
    x, y, z = signals(), signals(1), signals(2)
    volts = measure(1e-6 * x, 1e-6 * y, 1e-6 * z, RATE)
    assert volts == pytest.approx(measure(x, y, z, RATE))


def test_what_cannot_be_measured_is_refused():
    x = signals()
    for bad, words in ((x[:2], "estimate: must be of the shape"), (x * np.nan, "estimate: must be finite")):
        with pytest.raises(ConfigError, match=words):
            measure(x, x, bad, RATE)
    with pytest.raises(ConfigError, match=r"clean: no channel may be silent, given 'channel \[1\]'"):
        measure(x * [[1], [0], [1]], x, x, RATE)
