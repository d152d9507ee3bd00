"""Features of the three objectives at equal L0: what is kept of them is what their weights say."""

import numpy as np
import pytest
import torch

from mfrbook.chapters.end_to_end import looking, runs
from mfrbook.chapters.end_to_end import plan as end_to_end
from mfrbook.chapters.end_to_end.sizes import equal, smollm2
from mfrbook.drawing.features import token_score
from mfrbook.store.runs import Run
from mfrlib.config import ConfigError


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Two seeds of every objective."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MFR_CACHE", str(tmp_path_factory.mktemp("store")))
        return end_to_end.collect("smoke", 2)


@pytest.fixture(scope="module")
def looked(seeds):
    config = end_to_end.conditions("smoke", {})["e2e"]
    return looking.at_equal_l0(config, [{n: one[n] for n in equal.SPARSITIES} for one in seeds])


@pytest.mark.parametrize("objective", equal.SPARSITIES)
def test_one_sae_of_each_objective_that_differs_in_its_weight_alone(objective):
    config, front = equal.config_of(objective, 2), smollm2.config_of(objective, 2)
    assert config.sparsities == (equal.SPARSITIES[objective],)
    assert min(front.sparsities) < equal.SPARSITIES[objective] <= 1.5 * max(front.sparsities)
    assert (config.steps, config.learning_rate, config.seed) == (front.steps, front.learning_rate, 2)


def test_an_objective_that_is_none():
    with pytest.raises(ConfigError, match="did you mean 'local'"):
        equal.config_of("locla", 0)


def test_the_scores_and_the_nearest_features_are_those_of_the_weights(seeds, looked):
    _, found = looked
    config = end_to_end.conditions("smoke", {})["e2e"]
    place, batches = runs.opened(config), list(runs.batches(runs.opened(config), config.n_usage))
    stack = runs.stack_of(seeds[1]["e2e"])
    expected = token_score.scores(stack, 0, token_score.read(place.model, config.hook, batches, skip=1))
    np.testing.assert_array_equal(found["auc e2e"][1], expected)
    other = runs.stack_of(seeds[0]["e2e"]).dictionary[0][torch.as_tensor(seeds[0]["e2e"].arrays["rate"][0] > 0)]
    cosine = (stack.dictionary[0] @ other.T).max(1).values.detach().numpy()
    np.testing.assert_allclose(found["cosine e2e"][1], cosine, atol=1e-5)
    assert {name: one.shape for name, one in found.items()} == {
        f"{kind} {name}": (2, config.n_features) for kind in ("auc", "cosine") for name in equal.SPARSITIES
    }


def test_the_page_has_every_objective(looked):
    page = looked[0]["page"]
    assert page.count("<h2>") == 3
    assert 3 <= page.count("<details") <= 3 * looking.N_FEATURES


def test_a_table_tells_rare_features_from_common_ones_and_counts_the_shared():
    auc = np.array([[0.5, 0.9, np.nan, 1.0, 0.1], [0.6, 0.8, 0.7, np.nan, 0.1]])
    cosine = np.array([[0.95, 0.2, 0.99, 0.1, 0.99], [0.1, 0.91, 0.3, 0.99, 0.99]])
    arrays = {f"{kind} {name}": one for name in equal.SPARSITIES for kind, one in (("auc", auc), ("cosine", cosine))}
    compared = Run("end-to-end-likeness", {}, "", {}, arrays=arrays)
    rate = np.array([[0.009, 0.01, 0.2, 0.001, 0.0]])  # the last is dead
    seeds = [dict.fromkeys(equal.SPARSITIES, Run("end-to-end", {}, "", {}, arrays={"rate": rate}))] * 2
    assert [one.tolist() for one in looking.known(compared, "e2e", seeds, "rare")] == [[0.5, 1.0], [0.6]]
    assert [one.tolist() for one in looking.known(compared, "e2e", seeds, "common")] == [[0.9], [0.8, 0.7]]
    table = looking.scores(compared, seeds).set_index(["SAE", "features"])
    whole = table.loc["End-to-end"].iloc[0]
    assert whole["AUC, median"].middle == pytest.approx((0.9 + 0.7) / 2)
    assert whole["shared by another seed"].middle == 2
    assert len(table) == 9
    found = looking.values(compared, seeds)
    assert (found["auc_rare_local"], found["auc_common_local"]) == pytest.approx((0.675, 0.825))
    assert (found["scored_all_local"], found["looked"]) == (3, 2)
