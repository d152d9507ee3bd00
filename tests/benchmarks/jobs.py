"""What a worker can be told to do: each job is made once from a case and then done over and over."""

import tempfile
from collections.abc import Callable
from itertools import count, cycle
from pathlib import Path
from typing import Any

import torch

from .cases import Case
from .contestants import Contestant

Once = Callable[[], Any]  # what is timed; a loss it returns must be finite
N_BATCHES = 4  # taken in turn: no batch is in the cache because the step before used it


def step(case: Case, contestant: Contestant, device: str) -> Once:
    """One training step of a contestant."""
    draws = torch.Generator().manual_seed(0)
    batches = [torch.randn(case.batch, case.d_in, generator=draws).to(device) for _ in range(N_BATCHES)]
    take = contestant.build(case, batches, device)
    turn = cycle(batches)
    return lambda: take(next(turn))


def forward(case: Case, contestant: Contestant, device: str) -> Once:
    """The forward pass of our stack: the search for the k largest, and the sums of what they stand for."""
    import mfrlib

    draws = torch.Generator().manual_seed(0)
    batches = cycle([torch.randn(case.batch, case.d_in, generator=draws).to(device) for _ in range(N_BATCHES)])
    sae = mfrlib.TopKSAE(case.n_saes, case.d_in, case.n_features, case.k, generator=draws).to(device)

    def once() -> None:
        with torch.no_grad():
            sae(next(batches))

    return once


def optimizer(case: Case, contestant: Contestant, device: str) -> Once:
    """The optimiser's part of our step."""
    import mfrlib
    from mfrlib.training.state import TrainingState

    draws = torch.Generator().manual_seed(0)
    config = mfrlib.TrainingConfig(
        batch_size=case.batch, n_saes=case.n_saes, n_features=case.n_features, k=case.k, device=device
    )
    sae = mfrlib.TopKSAE(case.n_saes, case.d_in, case.n_features, case.k, generator=draws).to(device)
    state = TrainingState(sae, config)
    gradients = [torch.randn(one.shape, generator=draws).to(device) for one in sae.parameters()]
    return lambda: state.optimizer_step(gradients, config.learning_rate)


def data(case: Case, contestant: Contestant, device: str) -> Once:
    """Generate one batch of the synthetic experiment."""
    source, number = _synthetic(case, device), count()

    def once() -> None:
        source.batch(next(number))

    return once


def train(case: Case, contestant: Contestant, device: str, steps: int) -> Once:
    """Train from data to checkpoint, `steps` steps: the whole loop, which the paper's synthetic experiment runs."""
    import mfrlib.training.loop

    source = _synthetic(case, device)
    # The first hundred of ten thousand steps are watched more closely; a short run would be nothing else.
    config = mfrlib.TrainingConfig(
        steps=steps, batch_size=case.batch, n_saes=case.n_saes, n_features=case.n_features, k=case.k, device=device,
        alpha=1.0 if case.penalty else 0.0, reinit_window=0,
    )  # fmt: skip

    def once() -> None:
        with tempfile.TemporaryDirectory() as folder:
            mfrlib.training.loop.train(config, source, folder=Path(folder), progress=False)

    return once


def penalty(case: Case, contestant: Contestant, device: str, matching: str = "max") -> Once:
    """Evaluate the mutual feature penalty of a stack, with its gradient."""
    import mfrlib

    draws = torch.Generator().manual_seed(0)
    weight = torch.randn(case.n_saes, case.n_features, case.d_in, generator=draws).to(device).requires_grad_()

    def once() -> Any:
        weight.grad = None
        value = mfrlib.mutual_feature_penalty(weight, matching)
        value.backward()
        return value

    return once


def products(case: Case, contestant: Contestant, device: str) -> Once:
    """Ten products of two dictionaries: what one similarity matrix for each pair of five SAEs costs."""
    a, b = (torch.randn(case.n_features, case.d_in, device=device) for _ in range(2))
    out = torch.empty(case.n_features, case.n_features, device=device)

    def once() -> None:
        for _ in range(10):
            torch.mm(a, b.T, out=out)

    return once


def square(case: Case, contestant: Contestant, device: str, n: int, dtype: str = "float32") -> Once:
    """One product of two square matrices, into a third that is there: the machine at its best."""
    a, b = ((20 * torch.randn(n, n, device=device)).to(getattr(torch, dtype)) for _ in range(2))
    product, out_type = (torch._int_mm, torch.int32) if dtype == "int8" else (torch.mm, a.dtype)
    out = torch.empty(n, n, device=device, dtype=out_type)

    def once() -> None:
        product(a, b, out=out)

    return once


def copy(case: Case, contestant: Contestant, device: str, n: int) -> Once:
    """Copy n numbers: how fast memory can be read and written."""
    a, b = torch.ones(n, device=device), torch.empty(n, device=device)

    def once() -> None:
        b.copy_(a)

    return once


JOBS: dict[str, Callable[..., Once]] = {
    "step": step, "forward": forward, "optimizer": optimizer, "copy": copy, "data": data, "train": train, "penalty": penalty, "products": products, "square": square,
}  # fmt: skip


def _synthetic(case: Case, device: str) -> Any:
    from mfrlib.data.synthetic import SyntheticData, SyntheticSpec

    spec = SyntheticSpec(d_in=case.d_in, n_input_features=case.n_features, n_active=min(36, case.n_features // 12))
    return SyntheticData(spec, seed=0, batch_size=case.batch, n_samples=case.batch, device=device)
