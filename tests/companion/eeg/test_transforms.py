"""Fixed transforms and a better search, against windows whose answer is known."""

import numpy as np
import pytest
import torch
from scipy.fft import idct
from sklearn.linear_model import orthogonal_mp

from mfrbook.chapters.eeg import runs as eeg
from mfrbook.chapters.eeg import transforms
from mfrbook.chapters.eeg.recordings.simulation import simulated_eeg


def test_windows_of_few_cosines_are_rebuilt_exactly():
    draws = np.random.default_rng(0)
    coefficients = np.zeros((6, 50))
    coefficients[:, [3, 17, 40]] = draws.normal(size=(6, 3))
    x = torch.from_numpy(idct(coefficients, norm="ortho"))
    exact, short = transforms.cosine_errors(x, (3, 2)).tolist()
    assert exact == pytest.approx(0, abs=1e-15)
    smallest = np.sort(coefficients[:, [3, 17, 40]] ** 2, axis=1)[:, 0]
    assert short == pytest.approx(smallest.mean() / 50)


@pytest.mark.parametrize("k", [1, 4, 9])
def test_pursuit_is_that_of_scikit_learn(k):
    draws = torch.Generator().manual_seed(2)
    atoms = torch.nn.functional.normalize(torch.randn(60, 20, generator=draws, dtype=torch.float64), dim=1)
    x = torch.randn(30, 20, generator=draws, dtype=torch.float64)
    codes = orthogonal_mp(atoms.T.numpy(), x.T.numpy(), n_nonzero_coefs=k)
    expected = float(((atoms.T.numpy() @ codes - x.T.numpy()) ** 2).mean())
    assert transforms.pursuit_error(x, atoms, k) == pytest.approx(expected, rel=1e-9)


def test_the_saes_searched_have_the_runs_own_form(tmp_path, monkeypatch):
    monkeypatch.setenv("MFR_CACHE", str(tmp_path))
    monkeypatch.setattr(
        eeg, "simulated_eeg", lambda *args, **options: simulated_eeg(*args, n_subjects=3, seconds=8.0, **options)
    )
    form = {"decoder": "raw", "activation": "relu", "decoder_bias": True, "learning_rate": 0.05}
    sizes = {"steps": 12, "batch_size": 32, "n_features": 48, "n_saes": 2, "k": (4, 40), "data": "", "describe": False}
    config = transforms.configure({**sizes, **form, "searched": 10**6}, "smoke")
    loss = eeg.run(transforms.baseline(config)).results["loss"]
    assert transforms.run(config).results["sae"] == pytest.approx(loss, rel=1e-5)
