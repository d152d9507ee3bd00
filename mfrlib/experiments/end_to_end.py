"""The end-to-end paper: SAEs trained through the language model, beside local ones (arXiv 2405.12241; claims D1-D5, Q3)."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mfrlib.config import build, option, require, unknown_name
from mfrlib.data.token_batches import TokenBatches
from mfrlib.data.tokens import Sequences, declared_id, open_sequences
from mfrlib.end_to_end import Kind, Objective, measure
from mfrlib.experiments import Planned, Profile, drop_unset, require_penalty, seeds
from mfrlib.language_model import LanguageModel
from mfrlib.pretrained import declared_id as model_id
from mfrlib.relu_sae import ReLUSAE
from mfrlib.runs import Run, Store, complete, describe_config
from mfrlib.training import Stack, TrainingConfig, train

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
    model: str = option("gpt2", "language model: tiny-lm, a folder, one below models/ of MFR_DATA, or a hub name")
    text: str = option("Skylion007/openwebtext", "text: python-docs, sample, a file or folder, or a hub data set")
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
    n_held_out: int = option(500, "held-out sequences on which SAEs are inserted")
    n_usage: int = option(500, "held-out sequences on which it is counted which features are alive")

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        super().__post_init__()
        for name in ("n_sequences", "n_held_out", "n_usage"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be 1 or more")
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


# What is compared: the objective, and whether MFR's penalty pulls the dictionaries of a stack together.
CONDITIONS: Mapping[str, tuple[Kind, bool]] = {
    "local": ("local", False), "e2e": ("e2e", False), "downstream": ("downstream", False), "e2e-mfr": ("e2e", True),
}  # fmt: skip
TINY: Mapping[str, Any] = {
    "model": "tiny-lm", "text": "python-docs", "length": 128, "hook": "blocks.1.hook_resid_pre",
    "n_features": 384, "learning_rate": 0.01, "learning_rate_warmup": 5, "warmup": 20, "downstream": 1.0,
}  # fmt: skip
PROFILES: Mapping[str, Profile] = {
    "smoke": Profile({**TINY, "steps": 4, "batch_size": 1, "n_sequences": 64, "n_held_out": 2, "n_usage": 4}, 2),
    "quick": Profile({**TINY, "steps": 60, "batch_size": 1, "n_sequences": 500, "n_held_out": 8, "n_usage": 48}, 5),
    "paper": Profile({}, 5),
}
# The front: λ of each SAE of a stack, by profile and objective; k where SAEs have one.
SPARSITIES: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "smoke": {"local": (1.0, 6.0), "e2e": (0.5, 2.0), "downstream": (3.0, 10.0)},
    "quick": {"local": (1.0, 3.0, 6.0, 12.0, 24.0), "e2e": (0.5, 2.0), "downstream": (3.0, 10.0)},
    "paper": {"local": (0.8, 4.0, 6.0, 8.0, 10.0), "e2e": (0.5, 1.5, 3.0, 5.0, 10.0), "downstream": (10.0, 25.0, 50.0)},
}
KS: Mapping[str, tuple[int, ...]] = {"smoke": (4, 8), "quick": (8, 24), "paper": (8, 16, 32, 64, 128)}


def configure(values: Mapping[str, Any], profile: str = "quick") -> EndToEndConfig:
    """Return the config of a profile's size, with further fields changed."""
    if profile not in PROFILES:
        raise unknown_name(profile, PROFILES, "profile")
    return build(EndToEndConfig, {**PROFILES[profile].fields, **values})


def data_id(config: EndToEndConfig) -> str:
    """Return the declared identity of a config's training data, without opening it."""
    return declared_id(model_id(config.model), config.text, "train")


class Setting:
    """A language model and its text, as a config asks for them, opened once for several runs."""

    def __init__(self, config: EndToEndConfig) -> None:
        self.config = config

    @functools.cached_property
    def model(self) -> LanguageModel:
        """The language model."""
        from mfrlib.parallel import device_of

        return LanguageModel.load(self.config.model, device=str(device_of(self.config.device)))

    @functools.cached_property
    def train(self) -> Sequences:
        """The sequences to train on."""
        return self._open("train", self.config.n_sequences)

    @functools.cached_property
    def held_out(self) -> Sequences:
        """The sequences to measure on."""
        return self._open("held-out", max(self.config.n_held_out, self.config.n_usage))

    @property
    def skip(self) -> int:
        """Positions that SAEs leave alone."""
        return int(self.config.bos)

    def batches(self, n: int) -> Iterator[Tensor]:
        """Yield the first n held-out sequences, 16 at a time."""
        for start in range(0, n, 16):
            yield self.held_out.take(np.arange(start, min(start + 16, n))).to(self.model.device)

    def _open(self, split: Any, n_sequences: int) -> Sequences:
        config = self.config
        return open_sequences(
            self.model, config.text, split, n_sequences=n_sequences, length=config.length, bos=config.bos
        )

    def serves(self, config: EndToEndConfig) -> bool:
        """Tell whether a config asks for this model and text."""
        names = ("model", "text", "n_sequences", "length", "bos", "n_held_out", "n_usage", "device")
        return all(getattr(config, name) == getattr(self.config, name) for name in names)


def run(
    config: EndToEndConfig,
    store: Store | None = None,
    *,
    fresh: bool = False,
    progress: bool = True,
    setting: Setting | None = None,
) -> Run:
    """Return the run of a config, from the store or computed.

    Parameters
    ----------
    setting
        Model and text that are open already.
    """
    place = setting if setting and setting.serves(config) else Setting(config)

    def compute(folder: Path) -> Run:
        model = place.model
        source = TokenBatches(place.train, model.width(config.hook), batch_size=config.batch_size, seed=config.seed)
        objective = Objective(
            model, config.hook, config.objective, torch.tensor(config.sparsities), config.p,
            downstream=config.downstream, kl=config.kl, skip=place.skip,
        )  # fmt: skip
        trained = train(config, source, folder=folder, objective=objective, progress=progress)
        rates = usage(trained.sae, place, config)
        results = measure(model, trained.sae, config.hook, place.batches(config.n_held_out), skip=place.skip) | {
            "alive": (rates > 0).sum(1).tolist(),
            "alpha": trained.alpha,
            "events": trained.events,
            "samples": config.steps * config.batch_size * (config.length - place.skip),
            "epochs": source.epochs(config.steps),
        }
        weights = {name: value.detach().cpu().contiguous() for name, value in trained.sae.named_parameters()}
        described = describe_config(config) | {
            "model": model.id,
            "text": Path(config.text).name,
        }  # no path of this machine
        hashes = {"data_hash": place.train.hash, "model_hash": model.hash}
        return Run(
            "end-to-end", described, source.id, results, trained.metrics, {"rate": rates.numpy()}, weights, hashes
        )

    return (store or Store()).compute("end-to-end", config, data_id(config), compute, fresh=fresh)


@torch.no_grad()
def usage(sae: Stack, setting: Setting, config: EndToEndConfig) -> Tensor:
    """Return the share of held-out positions at which each feature is active, `(sae, feature)`."""
    counts, seen = torch.zeros(sae.weight.shape[:2]), 0
    for tokens in setting.batches(config.n_usage):
        whole = setting.model.activations(tokens, [config.hook])[config.hook]
        found, n = sae.usage(sae(whole[:, setting.skip :].flatten(0, 1)))
        counts, seen = counts + found.cpu(), seen + n
    return counts / seen


def of_run(run: Run) -> EndToEndConfig:
    """Return the config that a run was made with."""
    return build(EndToEndConfig, run.config)


def stack_of(run: Run) -> Stack:
    """Return the trained stack of a run."""
    config = of_run(run)
    sae = config.new_stack(run.weights["weight"].shape[2], torch.Generator())
    sae.load_state_dict(run.weights)
    return sae


def collect(
    profile: str, n_seeds: int | None = None, values: Mapping[str, Any] | None = None, *, trains: bool | None = None
) -> list[dict[str, Run]]:
    """Return, for each seed, the runs of every objective, and of end-to-end with MFR's penalty, at a profile's size."""
    configs = _configs(profile, n_seeds, values or {})
    store, setting = Store(trains=profile != "paper" if trains is None else trains), Setting(configs[0]["e2e"])
    calls = [partial(run, config, store, setting=setting) for one in configs for config in one.values()]
    runs = iter(complete(calls))
    return [{name: next(runs) for name in one} for one in configs]


def plan(values: Mapping[str, Any]) -> list[Planned]:
    """Return the runs that a notebook with these parameters asks for, refusing values that no run could have."""
    names = {field.name for field in fields(EndToEndConfig)} | {"local_sparsity"}
    changes = {name: value for name, value in values.items() if name in names}
    configs = _configs(values["profile"], values.get("n_seeds"), changes)
    return [Planned("end-to-end", config, data_id(config)) for one in configs for config in one.values()]


def _configs(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> list[dict[str, EndToEndConfig]]:
    """Return for each seed the config of every condition."""
    changes = drop_unset(values)
    conditions(profile, changes)  # refuses impossible values, and an unknown profile, before anything runs
    return [conditions(profile, {**changes, "seed": seed}) for seed in seeds(n_seeds, PROFILES[profile])]


def conditions(profile: str, values: Mapping[str, Any]) -> dict[str, EndToEndConfig]:
    """Return the config of every condition.

    Parameters
    ----------
    values
        Fields of the config; of these `alpha` is for the condition with the penalty, `sparsity` for those that go through
        the model, and `local_sparsity` for the local one. `k` is for all, where `sae` is `topk`.
    """
    shared = dict(values)
    alpha, local = shared.pop("alpha", "calibrate"), shared.pop("local_sparsity", None)
    sparsity, k = shared.pop("sparsity", None), shared.pop("k", None)
    require_penalty(alpha)
    base = configure(shared, profile)
    found = {}
    for name, (objective, penalised) in CONDITIONS.items():
        axis: Sequence[Any]
        changes: dict[str, Any]
        if base.sae == "topk":
            axis = _as_list(k) or KS[profile]
            changes = {"k": axis, "activation": "relu"}
        else:
            axis = _as_list(local if objective == "local" else sparsity) or SPARSITIES[profile][objective]
            changes = {"sparsity": axis}
        changes |= {"n_saes": len(axis), "objective": objective} | ({"alpha": alpha} if penalised else {})
        found[name] = configure({**shared, **changes}, profile)
    return found


def _as_list(value: Any) -> list[Any] | None:
    return None if value is None else list(value) if isinstance(value, list | tuple) else [value]
