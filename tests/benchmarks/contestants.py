"""Everyone's training step as its own trainer takes it, on batches handed in; run inside each one's environment.

A contestant's `build` takes a case, its batches and a device and returns a function of a batch that takes one step
(forward, loss, backward, optimiser) and returns the loss.
"""

import importlib.util
import sys
import types
from collections.abc import Callable
from itertools import count
from typing import Any, NamedTuple

from .cases import Case

Step = Callable[[Any], Any]


class Contestant(NamedTuple):
    """Where a step comes from: package (None: this project), builder, options as set, environment variables, engine."""

    package: str | None
    build: Callable[[Case, list[Any], str], Step]
    options: str
    variables: dict[str, str] = {}  # noqa: RUF012 - never written
    engine: Callable[[str], str] = lambda device: "PyTorch"


def without_init(package: str) -> None:
    """Let modules of a package be imported without its `__init__`, which imports what no training step needs."""
    if package in sys.modules:
        return
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(f"no package {package!r}")
    module = types.ModuleType(package)
    module.__path__ = list(spec.submodule_search_locations)
    sys.modules[package] = module


def ours(case: Case, batches: list[Any], device: str) -> Step:
    import torch

    import mfrlib
    from mfrlib.models.kernels import compiled
    from mfrlib.training.config import TrainingConfig
    from mfrlib.training.loop import reconstruct
    from mfrlib.training.state import TrainingState

    compiled.keep_memory()  # as `train` does

    alpha = 1.0 if case.penalty else 0.0
    config = TrainingConfig(
        batch_size=case.batch, n_saes=case.n_saes, n_features=case.n_features, k=case.k, alpha=alpha, device=device
    )
    start = torch.Generator().manual_seed(0)
    sae = mfrlib.TopKSAE(case.n_saes, case.d_in, case.n_features, case.k, generator=start).to(device)
    state = TrainingState(sae, config)

    def step(x: Any) -> Any:
        loss = reconstruct(sae, x)[0].sum()
        if alpha:
            loss = loss + alpha * state.penalty()
        gradients = torch.autograd.grad(loss, [*sae.parameters()])
        state.optimizer_step(gradients, config.learning_rate)
        return loss

    return step


def our_engine(device: str) -> str:
    from mfrlib.models.kernels import compiled

    return "compiled kernels" if device == "cpu" and compiled.available() else "PyTorch"


def sae_lens(*, sparse: bool) -> Callable[[Case, list[Any], str], Step]:
    def build(case: Case, batches: list[Any], device: str) -> Step:
        from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
        from sae_lens.config import SAETrainerConfig
        from sae_lens.training.sae_trainer import SAETrainer

        sae = TopKTrainingSAE(
            TopKTrainingSAEConfig(
                d_in=case.d_in, d_sae=case.n_features, k=case.k, device=device,
                aux_loss_coefficient=0.0, use_sparse_activations=sparse,
                rescale_acts_by_decoder_norm=not sparse,  # their default, whose gradient fails on sparse tensors
            )
        )  # fmt: skip
        config = SAETrainerConfig(
            total_training_samples=10**9, train_batch_size_samples=case.batch, lr=3e-4, lr_end=3e-5, device=device
        )
        trainer = SAETrainer(config, sae, iter(()))

        def step(x: Any) -> Any:
            loss = trainer.step(x).loss
            trainer.n_training_steps += 1
            return loss

        return step

    return build


def dictionary_learning(case: Case, batches: list[Any], device: str) -> Step:
    without_init("dictionary_learning")
    import torch
    from dictionary_learning.trainers.top_k import TopKTrainer

    trainer = TopKTrainer(
        steps=10**6, activation_dim=case.d_in, dict_size=case.n_features, k=case.k, layer=0, lm_name="none",
        auxk_alpha=0.0, warmup_steps=10, seed=0, device=device,
    )  # fmt: skip
    number = count()
    return lambda x: torch.tensor(trainer.update(next(number), x))


def sparsify(optimizer: str) -> Callable[[Case, list[Any], str], Step]:
    """Follow `Trainer.fit`, which cannot be called without a language model, line by line for one SAE."""

    def build(case: Case, batches: list[Any], device: str) -> Step:
        import torch
        from sparsify import SparseCoder, SparseCoderConfig

        sae = SparseCoder(case.d_in, SparseCoderConfig(num_latents=case.n_features, k=case.k), device)
        sae.b_dec.data = batches[0].mean(0)
        scale = (case.n_features / 2**14) ** 0.5
        if optimizer == "adam":
            steps: Any = torch.optim.Adam(sae.parameters(), lr=2e-4 / scale)
        else:
            from schedulefree import ScheduleFreeWrapper
            from sparsify.sign_sgd import SignSGD

            steps = ScheduleFreeWrapper(SignSGD(sae.parameters(), lr=5e-3 / scale), momentum=0.95)
            steps.train()
        since_fired = torch.zeros(case.n_features, dtype=torch.long, device=device)
        did_fire = torch.zeros(case.n_features, dtype=torch.bool, device=device)

        def step(x: Any) -> Any:
            sae.set_decoder_norm_to_unit_norm()
            total_variance = (x - x.mean(0)).pow(2).sum()
            out = sae(x=x, y=x, dead_mask=None, total_variance=total_variance)
            did_fire[out.latent_indices.flatten()] = True
            out.fvu.backward()
            sae.remove_gradient_parallel_to_decoder_directions()
            steps.step()
            steps.zero_grad()
            with torch.no_grad():
                since_fired.add_(len(x))
                since_fired[did_fire] = 0
                did_fire.zero_()
            return out.fvu

        return step

    return build


def overcomplete(case: Case, batches: list[Any], device: str) -> Step:
    without_init("overcomplete")
    import torch
    from overcomplete.sae import TopKSAE, train_sae

    sae = TopKSAE(case.d_in, nb_concepts=case.n_features, top_k=case.k, device=device)
    optimizer = torch.optim.Adam(sae.parameters(), lr=1e-3)
    last = []

    def criterion(x: Any, x_hat: Any, pre_codes: Any, codes: Any, dictionary: Any) -> Any:
        last[:] = [(x - x_hat).square().mean()]
        return last[0]

    def step(x: Any) -> Any:
        train_sae(sae, [x], criterion, optimizer, nb_epochs=1, monitoring=0, device=device)
        return last[0]

    return step


OURS, REFERENCE = "mfrlib", "mfrlib, plain PyTorch"
CONTESTANTS = {
    OURS: Contestant(None, ours, "AdamW, unit-norm tied decoder, freed memory kept", engine=our_engine),
    REFERENCE: Contestant(None, ours, "the same with MFR_NATIVE=0", {"MFR_NATIVE": "0"}, our_engine),
    "SAELens": Contestant("sae-lens", sae_lens(sparse=False), "AuxK off, Adam, gradients clipped (always)"),
    "SAELens, sparse": Contestant(
        "sae-lens", sae_lens(sparse=True), "the same, use_sparse_activations=True, rescale_acts_by_decoder_norm=False"
    ),
    "dictionary_learning": Contestant(
        "dictionary-learning", dictionary_learning, "AuxK off, Adam, unit-norm decoder, gradients clipped (always)"
    ),
    "sparsify": Contestant("eai-sparsify", sparsify("adam"), "AuxK off (default), optimizer=adam, unit-norm decoder"),
    "sparsify, signum": Contestant("eai-sparsify", sparsify("signum"), "the same, optimizer=signum (default)"),
    "overcomplete": Contestant(
        "overcomplete",
        overcomplete,
        "squared error, Adam, unit-norm dictionary, gradients clipped (default), monitoring=0",
    ),
}
