"""The end-to-end paper: SAEs trained through the language model, beside local ones (arXiv 2405.12241; claims D1-D5, Q3)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mfrbook.experiments.model_and_text import (
    OPENWEBTEXT,
    Opened,
    data_id,
    default_text,
    model_shape,
    open_model_and_text,
    sizes_of,
    text_name,
    weights_hash,
)
from mfrbook.experiments.planned import Profile, Profiles
from mfrbook.experiments.sources import located
from mfrbook.store import stacks
from mfrbook.store.retired import build
from mfrbook.store.runs import Run, describe_config
from mfrbook.store.store import Store
from mfrlib.config import option, require
from mfrlib.data.text.sequences import TokenBatches
from mfrlib.language_models.end_to_end import Kind, Objective, measure
from mfrlib.language_models.language_model import LanguageModel
from mfrlib.language_models.pretrained.names import EMBEDDED
from mfrlib.language_models.pretrained.names import declared_id as declared_model
from mfrlib.models.relu_sae import ReLUSAE
from mfrlib.training.config import TrainingConfig
from mfrlib.training.loop import Stack, train
from mfrlib.training.parallel import device_of

PAPER_SAMPLES = 400_000 * 1024  # tokens


@dataclass(frozen=True, kw_only=True)
class EndToEndConfig(TrainingConfig):
    """Model, text, objective and training of one run; the defaults are the paper's, as its released configuration has them."""

    steps: int = option(25_000, "training steps: 400,000 sequences")
    batch_size: int = option(16, "sequences per step")
    n_saes: int = option(1, "SAEs trained side by side")
    n_features: int = option(46_080, "features per SAE: 60 for each dimension")
    optimizer: Literal["adamw", "adam"] = option("adam", "optimiser")
    learning_rate: float = option(5e-4, "learning rate")
    learning_rate_warmup: int = option(1250, "steps in which the learning rate rises to it")
    learning_rate_end: float = option(0.1, "learning rate after the last step, as a share: a cosine leads there")
    model: str = option("gpt2", "language model: tiny-lm, a folder, or a name on the hub", in_key=False)
    text: str = option(OPENWEBTEXT, "text it reads", in_key=False)
    n_sequences: int = option(400_000, "sequences to train on")
    length: int = option(1024, "tokens of a sequence")
    bos: bool = option(
        True, "whether every sequence starts with the beginning-of-sequence token, which SAEs leave alone"
    )
    hook: str = option("blocks.6.hook_resid_pre", "activation that the SAEs replace")
    objective: Kind = option("e2e", "local: reconstruction; e2e: KL of outputs; downstream: that and later activations")
    sae: Literal["relu", "topk"] = option("relu", "relu: untied, with a sparsity loss; topk: tied, with k")
    init: Literal["tied", "independent"] = option("tied", "relu: the encoder starts as the decoder, or is drawn apart")
    sparsity: float | tuple[float, ...] = option(
        1.5, "relu: weight λ of the sparsity loss, one for all SAEs or one each"
    )
    p: float = option(1.0, "relu: norm in the sparsity loss")
    kl: float = option(1.0, "weight of the KL term")
    downstream: float = option(2.5, "weight β of downstream reconstruction, shared out over the later layers")
    bfloat16: bool = option(False, "whether training takes the model's products in bfloat16; evaluation never does")
    n_held_out: int = option(500, "held-out sequences on which SAEs are inserted")
    n_seen: int = option(
        0, "sequences of training on which SAEs are inserted too, for a choice that held-out text must not make"
    )
    n_usage: int = option(500, "held-out sequences on which it is counted which features are alive")

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        super().__post_init__()
        for name in ("model", "text"):
            object.__setattr__(self, name, located(name, getattr(self, name)))
        for name in ("n_sequences", "n_held_out", "n_usage"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be 1 or more")
        require(self.n_seen >= 0, "n_seen", self.n_seen, "must be 0 or more")
        require(self.length >= 2 + self.bos, "length", self.length, f"must be {2 + self.bos} or more")
        weights = self.sparsities
        require(len(weights) == self.n_saes, "sparsity", self.sparsity, f"one value, or n_saes = {self.n_saes}")
        for name, value in (("sparsity", min(weights)), ("kl", self.kl), ("downstream", self.downstream)):
            require(0 <= value < float("inf"), name, value, "must be 0 or more, and finite")
        require(0 < self.p <= 2, "p", self.p, "must be above 0, and 2 at most")

    @property
    def sparsities(self) -> tuple[float, ...]:
        """The weight of the sparsity loss of each SAE."""
        return self.sparsity if isinstance(self.sparsity, tuple) else (self.sparsity,) * self.n_saes

    def new_stack(self, d_in: int, draws: torch.Generator) -> Stack:
        """Return the stack to train, with fresh weights."""
        if self.sae == "topk":
            return super().new_stack(d_in, draws)
        return ReLUSAE(self.n_saes, d_in, self.n_features, init=self.init, generator=draws)


_SMALL: Mapping[str, Any] = {
    "learning_rate": 0.01,
    "learning_rate_warmup": 5,
    "warmup": 20,
    "downstream": 1.0,
    "batch_size": 1,
}
PROFILES = Profiles(
    smoke=Profile({**_SMALL, "steps": 4, "n_sequences": 64, "n_held_out": 2, "n_usage": 4}, 2),
    quick=Profile({**_SMALL, "steps": 60, "n_sequences": 500, "n_held_out": 8, "n_usage": 48}, 5),
    published=Profile({}, 5),
)
# Profile `published` on the embedded model: what there is time for on two cores. Any other model takes the paper's sizes.
PUBLISHED: Mapping[str, Any] = {
    "learning_rate": 0.003, "learning_rate_warmup": 30, "warmup": 100, "downstream": 1.0, "batch_size": 4, "steps": 600,
    "n_sequences": 4000, "n_held_out": 100, "n_usage": 500,
}  # fmt: skip
RATIO = {"smoke": 2, "quick": 2, "published": 16, "paper": 60}  # features for each dimension of the model


def configure(values: Mapping[str, Any], profile: str = "quick") -> EndToEndConfig:
    """Return the config of a profile's size, with further fields changed; by default on the embedded model.

    What depends on the model follows it where it is not given: its text, the residual stream in the middle of its blocks, sequences as
    long as its context (the paper's 1024 at most), and features by a ratio to its dimensions: on GPT-2 Small as in the paper.
    """
    model = values.get("model", EMBEDDED)
    require(isinstance(model, str), "model", model, "must be a name or a folder")
    name = sizes_of(profile, model)
    chosen_sizes = PUBLISHED if name == "published" else PROFILES[profile].fields
    chosen = {"model": model, **chosen_sizes, **values}
    shape = model_shape(model)
    sizes = {"length": min(1024, shape.context), "n_features": RATIO[name] * shape.width}
    place = {"text": default_text(model), "hook": f"blocks.{shape.layers // 2}.hook_resid_pre"}
    return build(EndToEndConfig, {**sizes, **place, **chosen})


def opened(config: EndToEndConfig) -> Opened:
    """Open a config's model and text."""
    return open_model_and_text(
        config.model, config.text, n_train=config.n_sequences, n_held_out=max(config.n_held_out, config.n_usage),
        length=config.length, bos=config.bos, device=str(device_of(config.device)),
    )  # fmt: skip


def batches(found: Opened, n: int, size: int = 16, *, seen: bool = False) -> Iterator[Tensor]:
    """Yield the first n held-out sequences, or those of training, int64 `(≤ size, position)`."""
    sequences = found.train if seen else found.held_out
    for start in range(0, n, size):
        yield sequences.take(np.arange(start, min(start + size, n))).to(found.model.device)


def run(config: EndToEndConfig, store: Store | None = None, *, fresh: bool = False, progress: bool = True) -> Run:
    """Return the run of a config, from the store or computed.

    Raises
    ------
    LanguageModelError, TextError
        If the model or the text is not there or cannot be used, before anything is trained.
    """
    store, identity = store or Store(), data_id(config)

    def compute(folder: Path) -> Run:
        place, skip = opened(config), int(config.bos)
        source = TokenBatches(
            place.train, place.model.width(config.hook), batch_size=config.batch_size, seed=config.seed
        )
        trained = train(config, source, folder=folder, objective=objective(config, place.model), progress=progress)
        rates = usage(trained.sae, place, config)
        inserted = partial(measure, place.model, trained.sae, config.hook, skip=skip)
        results = inserted(batches(place, config.n_held_out)) | {
            "alive": (rates > 0).sum(1).tolist(),
            "alpha": trained.alpha,
            "events": trained.events,
            "samples": config.steps * config.batch_size * (config.length - skip),
            "epochs": source.epochs(config.steps),
        }
        if config.n_seen:
            results["seen"] = inserted(batches(place, config.n_seen, seen=True))
        names = {"model": declared_model(config.model), "text": text_name(config.text)}  # no path of this machine
        origin = {"data_hash": place.train.hash, "model_hash": weights_hash(config.model)}
        return Run(
            "end-to-end", describe_config(config) | names, identity, results, trained.metrics,
            {"rate": rates.numpy()}, trained.weights, origin,
        )  # fmt: skip

    return store.compute("end-to-end", config, identity, compute, fresh=fresh)


def objective(config: EndToEndConfig, model: LanguageModel) -> Objective:
    """Return what a config's SAEs are trained for."""
    return Objective(
        model, config.hook, config.objective, torch.tensor(config.sparsities), config.p,
        downstream=config.downstream, kl=config.kl, skip=int(config.bos), bfloat16=config.bfloat16,
    )  # fmt: skip


@torch.no_grad()
def usage(sae: Stack, place: Opened, config: EndToEndConfig) -> Tensor:
    """Return the share of held-out positions at which each feature is active, `(sae, feature)`."""
    counts, seen = torch.zeros(sae.weight.shape[:2]), 0
    for tokens in batches(place, config.n_usage):
        whole = place.model.activations(tokens, [config.hook])[config.hook]
        found, n = sae.usage(sae(whole[:, int(config.bos) :].flatten(0, 1)))
        counts, seen = counts + found.cpu(), seen + n
    return counts / seen


def of_run(run: Run) -> EndToEndConfig:
    """Return the config that a run was made with; its model and text go by their declared names."""
    return build(EndToEndConfig, run.config)


def stack_of(run: Run) -> Stack:
    """Return the trained stack of a run."""
    return stacks.stack_of(of_run(run), run)
