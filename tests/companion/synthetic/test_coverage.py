import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from mfrbook.chapters.synthetic import runs as synthetic
from mfrbook.chapters.synthetic.questions import coverage
from mfrbook.store.runs import write
from mfrbook.store.store import MissingRunsError, Store
from mfrlib.data.synthetic import SyntheticData

SMALL = synthetic.configure({"steps": 20, "batch_size": 50}, "smoke")


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("MFR_CACHE", str(tmp_path))
    return Store(tmp_path)


def test_what_one_finds_and_the_other_does_not_is_found_together():
    best = torch.tensor([[0.95, 0.91, 0.2, 0.1], [0.3, 0.99, 0.9, 0.1]])
    assert coverage.recovered_together(best) == {"each": [0.5, 0.5], "any": 0.75, "every": 0.25}


def test_copies_find_together_what_each_finds():
    row = torch.rand(1, 50, generator=torch.Generator().manual_seed(0))
    found = coverage.recovered_together(row.repeat(3, 1))
    assert found["any"] == found["every"] == found["each"][0] == found["each"][2] > 0


def test_each_is_what_the_run_itself_says_it_recovers(store):
    made = synthetic.run(SMALL, store)
    weight = made.weights["weight"]
    source = SyntheticData(SMALL, SMALL.seed, SMALL.batch_size, 1000, torch.device("cpu"))
    weight[0, :100], weight[1, 60:200] = source.features[:100], source.features[60:200]  # as if these were learned
    write(replace(made, weights={"weight": weight}), store.cache / "synthetic" / made.key)
    found = coverage.run(SMALL, store)
    sae = weight / weight.norm(dim=-1, keepdim=True)
    cosine = (sae @ (source.features / source.features.norm(dim=-1, keepdim=True)).T).amax(1)
    assert np.allclose(found.arrays["best"], cosine, atol=1e-5)
    assert found.results["each"] == pytest.approx([100 / 512, 140 / 512])
    assert found.results["any"] == pytest.approx(200 / 512)
    assert found.results["every"] == pytest.approx(40 / 512)
    assert found.results["samples"] == 1000


def test_weights_that_an_archive_left_out_are_trained_again(store, monkeypatch):
    found = coverage.run(SMALL, store)
    assert np.allclose(found.results["each"], synthetic.run(SMALL, store).results["recovered"])
    shutil.rmtree(store.cache / "synthetic")
    assert coverage.run(SMALL, store).key == found.key, "the answer is kept without the weights"
    assert coverage.run(SMALL, store, fresh=True).results == found.results
    with pytest.raises(MissingRunsError, match="not in the archive: coverage"):
        coverage.collect("smoke", 1, {"steps": 7}, trains=False)
