"""Dead features are given the residual to explain (AuxK), and nothing else changes."""

from dataclasses import replace

import pytest
import torch

from mfrlib import TopKSAE, TrainingConfig, train
from mfrlib.config import ConfigError, key_fields
from mfrlib.models.stack import activation_counts
from mfrlib.training.parallel import Team
from mfrlib.training.revival import Revival

CONFIG = TrainingConfig(
    steps=60, batch_size=32, n_features=24, k=(2, 3), revival=1 / 32, revival_k=4, revival_after=64, log_every=5,
    checkpoint_every=7, learning_rate=0.01, device="cpu",
)  # fmt: skip


@pytest.fixture
def x():
    """Rows around a mean that points away from half of the features: they never fire."""
    draws = torch.Generator().manual_seed(0)
    return torch.randn(320, 8, generator=draws) + 3


def quiet(config, x, **options):
    return train(config, x, progress=False, **options)


def test_without_it_the_key_of_a_run_is_what_it_was():
    plain = replace(CONFIG, revival=0.0, revival_k=512, revival_after=40_000)
    assert not {name for name in key_fields(plain) if name.startswith("revival")}


def test_the_gradient_is_that_of_the_published_loss(x):
    sae = TopKSAE(2, 8, 24, (2, 3), decoder_bias=True, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        sae.decoder_bias += 0.1
    batch, dead = x[:32].double(), torch.zeros(2, 24, dtype=torch.bool)
    dead[0, 3:15] = dead[1, 7:9] = True  # more than k_aux of them, and fewer
    revival = Revival(CONFIG, Team(), sae)
    revival.silent[dead] = 10_000
    own, _ = revival(sae, batch)
    dead = revival.silent >= CONFIG.revival_after
    assert dead.sum(1).tolist() == [n for n in dead.sum(1).tolist() if n]
    got = torch.autograd.grad(own.sum(), [*sae.parameters()])

    output = sae(batch)
    total = (output.reconstruction - batch).square().mean(dim=(1, 2)).sum()
    assert own.sum().item() == pytest.approx(total.item())
    for one in range(2):
        pre = (batch - sae.decoder_bias[one]) @ sae.weight[one].T + sae.bias[one]
        pre = torch.where(dead[one], pre, -torch.inf)
        top = pre.topk(min(4, int(dead[one].sum())), dim=1)
        z = torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())
        residual = (batch - output.reconstruction[one]).detach()
        total = total + (residual - z @ sae.dictionary[one]).square().mean() / 32
    for mine, expected in zip(got, torch.autograd.grad(total, [*sae.parameters()]), strict=True):
        torch.testing.assert_close(mine, expected)


def test_where_nothing_is_dead_it_changes_nothing(x):
    never = replace(CONFIG, revival_after=10**9)
    one, other = quiet(never, x), quiet(replace(CONFIG, revival=0.0), x)
    assert one.metrics == other.metrics
    assert torch.equal(one.sae.weight, other.sae.weight)


def test_a_feature_is_dead_after_so_many_samples_without_activation(x):
    sae = TopKSAE(2, 8, 24, (2, 3), generator=torch.Generator().manual_seed(1))
    revival = Revival(CONFIG, Team(), sae)
    _, found = revival(sae, x[:32])
    fired = activation_counts(found, 24) > 0
    assert torch.equal(revival.silent, torch.where(fired, 0, 32))
    _, found = revival(sae, x[:32])
    assert torch.equal(revival.silent, torch.where(fired, 0, 64))


def test_it_brings_features_back():
    draws = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(48, 16, generator=draws), dim=-1)
    code = torch.rand(2048, 48, generator=draws) * (torch.rand(2048, 48, generator=draws) < 0.06)
    sparse = code @ directions
    config = replace(CONFIG, steps=600, batch_size=64, n_features=64, k=2, revival_k=16, revival_after=1024)

    def trained(revival):
        sae = quiet(replace(config, revival=revival), sparse).sae
        output = sae(sparse)
        return (activation_counts(output, 64) > 0).sum(), (output.reconstruction - sparse).square().mean()

    (alive, loss), (alive_before, loss_before) = trained(1 / 32), trained(0.0)
    assert alive >= alive_before + 10
    assert loss < 0.95 * loss_before


def test_stopped_and_started_again_it_ends_with_the_same_bits(x, tmp_path):
    whole = quiet(CONFIG, x)
    quiet(replace(CONFIG, steps=33), x, folder=tmp_path)
    again = quiet(CONFIG, x, folder=tmp_path)
    assert again.metrics[-1] == whole.metrics[-1]
    assert torch.equal(again.sae.weight, whole.sae.weight)


@pytest.mark.parametrize(("name", "value"), [("revival", -1.0), ("revival_k", 0), ("revival_after", 0)])
def test_impossible_values_are_refused(name, value):
    with pytest.raises(ConfigError, match=name):
        replace(CONFIG, **{name: value})


def test_another_objective_has_no_residual_to_explain(x):
    with pytest.raises(ConfigError, match="revival: must be 0 with your own objective"):
        quiet(CONFIG, x, objective=lambda sae, x: (sae(x).reconstruction.square().mean(dim=(1, 2)), sae(x)))
