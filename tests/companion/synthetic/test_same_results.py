"""The fast path and the plain form give the same results at the sizes that matter, not only on small tensors."""

import numpy as np
import pytest
import torch

from mfrbook.chapters.synthetic import runs as synthetic
from mfrbook.store.store import Store
from mfrlib import TopKSAE
from mfrlib.data.synthetic import SyntheticData, SyntheticSpec
from mfrlib.models import sparse
from mfrlib.models.kernels import compiled
from mfrlib.training.config import TrainingConfig
from mfrlib.training.state import TrainingState

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not compiled.available(), reason="no C compiler here: there is one path only"),
]

WIDE = SyntheticSpec(n_input_features=1536, d_in=768)
SIZES = {  # the paper's synthetic experiment, and GPT-2 Small's
    "S": (SyntheticSpec(), TrainingConfig(n_saes=1, device="cpu")),
    "G": (WIDE, TrainingConfig(n_saes=1, n_features=3072, k=18, batch_size=500, learning_rate=1e-3, device="cpu")),
}


@pytest.mark.parametrize("size", SIZES)
def test_thirty_steps_agree_one_by_one(size):
    """From the same weights each time: on their own, rounding sets two paths apart (the next test says how far)."""
    spec, config = SIZES[size]
    source = SyntheticData(spec, 0, config.batch_size, 10**7)
    sae = TopKSAE(1, spec.d_in, config.n_features, config.k, generator=torch.Generator().manual_seed(0))
    state, form = TrainingState(sae, config), {"unit_rows": True, "relu": False}
    for step in range(30):
        x = without_ties(source.batch(step), sae)
        assert len(x) > 0.99 * config.batch_size
        codes = sparse.reference(x, sae.weight, sae.bias, sae.k, **form)
        expected = (codes.sums - x).square().mean()
        gradients = torch.autograd.grad(expected, [sae.weight, sae.bias])
        loss = sae.squared_error(x, 1 / x.numel()).error
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5), step
        found = torch.autograd.grad(loss.sum(), [sae.weight, sae.bias])
        for name, one, other in zip(("weight", "bias"), found, gradients, strict=True):
            assert (one - other).norm() < 1e-4 * other.norm(), (step, name)
        state.optimizer_step(found, config.learning_rate)


def without_ties(x, sae):
    """Leave out the samples whose k-th and next activation lie so close that rounding chooses between them."""
    with torch.no_grad():
        hidden = torch.nn.functional.linear(x, sae.weight[0], sae.bias[0])
        largest = hidden.topk(sae.k[0] + 1).values
    return x[largest[:, -2] - largest[:, -1] > 1e-5 * largest[:, 0].abs()]


def test_a_run_left_to_itself_ends_within_the_noise_of_seeds(tmp_path, monkeypatch):
    """Adam and the choice of the k largest magnify rounding, as they do between two orders of the same sum."""
    ends: dict[bool, list[list[float]]] = {True: [], False: []}
    for fast, found in ends.items():
        monkeypatch.setattr(compiled, "available", lambda fast=fast: fast)
        for seed in range(5):
            config = synthetic.configure({"seed": seed, "steps": 120, "batch_size": 500, "device": "cpu"}, "quick")
            results = synthetic.run(config, Store(tmp_path / str(fast)), progress=False).results
            found.append([np.mean(results[name]) for name in ("loss", "fvu", "mmcs_input", "mmcs_across", "dead")])
    fast, plain = np.array(ends[True]), np.array(ends[False])
    assert not np.array_equal(fast, plain)
    assert (np.abs(fast - plain).mean(0) <= plain.std(0, ddof=1)).all(), (fast, plain)
