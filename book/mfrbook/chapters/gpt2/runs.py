"""Section 4.1 of the MFR paper: SAEs of several k on a language model's activations (Figure 9, Tables 1 and 2)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mfrbook.chapters.gpt2.activation_cache import cached
from mfrbook.chapters.gpt2.variants import VariantConfig, train_variant
from mfrbook.experiments.model_and_text import (
    GPT2_WIDTH,
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
from mfrbook.experiments.untrained import Weights
from mfrbook.store.retired import build
from mfrbook.store.runs import Run, describe_config
from mfrbook.store.store import Store
from mfrlib.config import option, require
from mfrlib.data.text.sequences import Sequences
from mfrlib.environment import cache_folder
from mfrlib.language_models.activations import ActivationBatches, ModelReader, Reader, in_order
from mfrlib.language_models.evaluation import REFERENCES, insertion_losses, loss_recovered
from mfrlib.language_models.language_model import LanguageModel
from mfrlib.language_models.pretrained.names import EMBEDDED
from mfrlib.language_models.pretrained.names import declared_id as declared_model
from mfrlib.method.evaluation import evaluate as evaluate_stack
from mfrlib.method.reinit import inactivity
from mfrlib.models.sae import TopKSAE
from mfrlib.models.stack import activation_counts
from mfrlib.randomness import generator
from mfrlib.training.parallel import device_of

PAPER_SAMPLES = 2_000_000
PAPER_K = (6, 12, 18, 24, 30)  # §4.1, at GPT-2 Small's width
N_STARTS = 5
_STARTS = 61  # stream of a seed
_references: dict[tuple[str, str, str, str, bytes], dict[str, np.ndarray]] = {}
"""The losses without SAEs that a process computed last, by what they depend on: all runs on a model share them."""


@dataclass(frozen=True, kw_only=True)
class GPT2Config(VariantConfig):
    """Data and training of one run; the defaults are the paper's (§4.1), condition baseline."""

    steps: int = option(4000, "training steps: 2 M tokens (§4.1)")
    batch_size: int = option(500, "tokens per step (§4.1)")
    n_saes: int = option(5, "SAEs trained side by side (§4.1)")
    n_features: int = option(3072, "features per SAE (§4.1)")
    k: int | tuple[int, ...] = option(PAPER_K, "active features per token, one for each SAE (§4.1)")
    warmup: int = option(100, "steps of cosine warm-up of the penalty (§4.1)")
    learning_rate: float = option(0.001, "learning rate (§4.1)")
    model: str = option("gpt2", "language model: tiny-lm, a folder, or a name on the hub", in_key=False)
    weights: Weights = option("trained", "the real layer, or untrained-block: the released code's (R14)")
    text: str = option(OPENWEBTEXT, "text it reads (R15)", in_key=False)
    hook: str = option("blocks.0.hook_mlp_out", "activations the SAEs are trained on (§4.1)")
    length: int = option(128, "tokens of a sequence, the beginning-of-sequence token included")
    bos: bool = option(True, "begin every sequence with that token; its own activation is left out")
    shuffle: bool = option(True, "shuffle the tokens of the sequences; false: consecutive ones (R14)")
    n_sequences: int = option(16_000, "sequences to train on: 2 M tokens")
    n_held_out: int = option(10_000, "held-out sequences")
    n_inserted: int = option(10_000, "how many of them the SAEs' outputs are inserted in (§4.1); 0: none")

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        super().__post_init__()
        for name in ("model", "text"):
            object.__setattr__(self, name, located(name, getattr(self, name)))
        for name in ("n_sequences", "n_held_out"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be 1 or more")
        require(self.length >= 3, "length", self.length, "must be 3 or more")
        require(
            0 <= self.n_inserted <= self.n_held_out, "n_inserted", self.n_inserted,
            f"must be from 0 to n_held_out = {self.n_held_out}",
        )  # fmt: skip


_QUICK = {"steps": 120, "batch_size": 250, "warmup": 25, "n_sequences": 240, "n_held_out": 48, "n_inserted": 16}
_SMOKE = {
    "steps": 20, "batch_size": 128, "warmup": 5, "n_features": 256, "length": 32, "n_sequences": 128, "n_held_out": 16,
    "n_inserted": 8,
}  # fmt: skip
PROFILES = Profiles(
    smoke=Profile(_SMOKE, 2),
    quick=Profile(_QUICK, 5),
    published=Profile({}, 5),
)
# Profile `published` on the embedded model: the paper's tokens, but fewer held-out sequences, to spare time. Any other model takes
# the paper's sizes.
PUBLISHED: Mapping[str, Any] = {"n_held_out": 500, "n_inserted": 250, "log_every": 100}


def scaled_k(width: int) -> tuple[int, ...]:
    """Return k for another width: the paper's k / d_in, at least 1, all different."""
    found: list[int] = []
    for k in PAPER_K:
        found.append(max(int(k * width / GPT2_WIDTH + 0.5), found[-1] + 1 if found else 1))
    return tuple(found)


def configure(values: Mapping[str, Any], profile: str = "quick") -> GPT2Config:
    """Return the config of a profile's size, with further fields changed; by default on the embedded model.

    Where they are not given, SAEs have four times as many features as the model has dimensions, and the paper's
    k / d_in: on GPT-2 Small this is the paper's size.
    """
    model = values.get("model", EMBEDDED)
    require(isinstance(model, str), "model", model, "must be a name or a folder")
    sizes = PUBLISHED if sizes_of(profile, model) == "published" else PROFILES[profile].fields
    chosen = {"model": model, "text": default_text(model), **sizes, **values}
    if not {"n_features", "k"} <= chosen.keys():
        width = model_shape(model).width
        chosen = {"n_features": 4 * width, "k": scaled_k(width)} | chosen
    return build(GPT2Config, chosen)


def run(config: GPT2Config, store: Store | None = None, *, fresh: bool = False, progress: bool = True) -> Run:
    """Return the run of a config, from the store or computed.

    Raises
    ------
    LanguageModelError, TextError
        If the model or the text is not there or cannot be used, before anything is trained.
    """
    store, identity = store or Store(), data_id(config)

    def compute(folder: Path) -> Run:
        opened = open_text(config)
        reader = _reader(opened.model, opened.train, config, progress)
        source = ActivationBatches(
            reader, config.hook, batch_size=config.batch_size, seed=config.seed, shuffle=config.shuffle
        )
        trained = train_variant(config, source, folder, progress=progress)
        results, arrays = evaluate(trained.sae, opened.model, opened.held_out, config)
        results |= {
            "alpha": trained.alpha,
            "events": trained.events,
            "samples": config.steps * config.batch_size,
            "epochs": source.epochs(config.steps),
            "d_in": source.d_in,
        }
        if config.reinit == "off" and not config.center:  # the starts would see activations as they are
            results["passing_starts"] = passing_starts(config, source)
        names = {"model": declared_model(config.model), "text": text_name(config.text)}  # no path of this machine
        origin = {"data_hash": opened.train.hash, "model_hash": weights_hash(config.model)}
        return Run(
            "gpt2", describe_config(config) | names, identity, results, trained.metrics, arrays, trained.weights, origin
        )

    return store.compute("gpt2", config, identity, compute, fresh=fresh)


def open_text(config: GPT2Config) -> Opened:
    """Open a config's model and both sides of its text."""
    return open_model_and_text(
        config.model, config.text, weights=config.weights, seed=config.seed, n_train=config.n_sequences,
        n_held_out=config.n_held_out, length=config.length, bos=config.bos, device=str(device_of(config.device)),
    )  # fmt: skip


def _reader(model: LanguageModel, sequences: Sequences, config: GPT2Config, progress: bool) -> Reader:
    """Return the activations, computed once for all seeds and conditions and kept beside the runs."""
    reader = ModelReader(model, sequences, [config.hook])
    return cached(reader, cache_folder() / "activations", progress=progress)


def evaluate(
    sae: TopKSAE, model: LanguageModel, held_out: Sequences, config: GPT2Config
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Measure a stack on held-out text: what `mfrlib.method.evaluation` and `mfrlib.language_models.evaluation` give.

    Returns
    -------
    results : dict
        With `n_inserted`: `ce` and the losses recovered (one value per SAE), `ce_unmodified`, `ce_zero`, `ce_mean`,
        and `ce_uniform`, the cross-entropy of a uniform guess.
    arrays : dict of ndarray
        `rate` (sae, feature), `ce` (sae, sequence), and `ce_unmodified`, `ce_zero`, `ce_mean` (sequence,).
    """
    reader = _reader(model, held_out, config, False)
    found = evaluate_stack(sae, in_order(reader, config.hook))
    results, arrays = found.results | {"held_out_tokens": found.n}, {"rate": found.rate}
    if config.n_inserted:
        first = Sequences(held_out.tokens[: config.n_inserted], held_out.id, held_out.bos, held_out.n_documents)
        same = (str(model.identity), model.hash, first.hash, config.hook, found.mean.cpu().numpy().tobytes())
        losses = insertion_losses(
            model, sae, first, config.hook, found.mean, skip=reader.skip, known=_references.get(same)
        )
        _references.clear()
        _references[same] = {name: losses[name] for name in REFERENCES}
        means = {name: float(value.mean()) for name, value in losses.items() if value.ndim == 1}
        ce, unmodified = losses["ce"].mean(1).tolist(), means["ce_unmodified"]
        results |= means | {"ce": ce, "ce_uniform": float(np.log(model.vocabulary))}
        for name in ("zero", "mean"):
            results[f"recovered_{name}"] = [loss_recovered(one, unmodified, means[f"ce_{name}"]) for one in ce]
        arrays |= losses
    return results, arrays


@torch.no_grad()
def passing_starts(config: GPT2Config, source: ActivationBatches) -> list[float]:
    """Return, for each SAE, the share of fresh starts whose inactivity on the first batch is not above the threshold."""
    device = device_of(config.device)
    x, draws, passed = source.batch(0).to(device), generator(config.seed, _STARTS), torch.zeros(config.n_saes)
    for _ in range(N_STARTS):
        sae = config.new_stack(source.d_in, draws)
        rates = activation_counts(sae.to(device)(x), config.n_features).cpu() / len(x)
        passed += inactivity(rates, sae.k, config.inactivity_power) <= config.reinit_threshold
    return (passed / N_STARTS).tolist()
