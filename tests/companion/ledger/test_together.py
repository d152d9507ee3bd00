"""All rows judged together."""

import numpy as np
import pytest
from scipy import stats

from mfrbook.ledger.rule import effect_of
from mfrbook.ledger.together import is_test, p_value
from mfrbook.ledger.verdicts import load_claims


def row(values, **kind):
    effect = effect_of(values, **kind)
    return {"ours": effect.middle, "ci": list(effect.ci), "n_seeds": effect.n}


def test_p_is_that_of_the_t_test():
    x = np.random.default_rng(0).normal(0.4, 1, 7)
    assert p_value(row(x)) == pytest.approx(stats.ttest_1samp(x, 0).pvalue)
    assert p_value(row(np.tanh(x), correlation=True), True) == pytest.approx(stats.ttest_1samp(x, 0).pvalue)


def test_a_level_an_amount_a_single_unit_and_the_first_editions_mixture_are_no_tests():
    found = row([1.0, 2.0, 3.0])
    assert is_test(found, {"reading": "as-released"})
    for claim in ({"reading": "first-edition"}, {"amount": True}, {"margin": 1}):
        assert not is_test(found, claim)
    assert not is_test(row([1.0]), {})
    by_id = {one["id"]: one for one in load_claims()}
    assert not [name for name, claim in by_id.items() if "mixture" in claim["claim"] and is_test(found, claim)]
