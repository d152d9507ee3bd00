"""All rows judged together."""

import numpy as np
import pytest
from scipy import stats

from mfrbook.ledger.rule import effect_of
from mfrbook.ledger.together import kept, p_value


def row(values, **kind):
    effect = effect_of(values, **kind)
    return {"ours": effect.middle, "ci": list(effect.ci), "n_seeds": effect.n}


def test_p_is_that_of_the_t_test():
    x = np.random.default_rng(0).normal(0.4, 1, 7)
    assert p_value(row(x)) == pytest.approx(stats.ttest_1samp(x, 0).pvalue)
    assert p_value(row(np.tanh(x), correlation=True), True) == pytest.approx(stats.ttest_1samp(x, 0).pvalue)


def test_discoveries_are_those_of_scipy():
    p = np.random.default_rng(1).uniform(size=40) ** 3
    assert (kept(p) == (stats.false_discovery_control(p) <= 0.05)).all()
    assert not kept([0.2, 0.9]).any()
