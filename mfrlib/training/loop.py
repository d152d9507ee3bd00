"""The training loop of every experiment: one stack of SAEs, one step for all of them, resumable to the bit."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from mfrlib.config import key_fields, option, require, require_own_folder, require_types
from mfrlib.data.batches import SHARDS, Batches
from mfrlib.data.loader import IteratedBatches, as_source
from mfrlib.method.penalty import Direction, Matching, calibrated_alpha, warmup
from mfrlib.method.reinit import Mode, inactivity
from mfrlib.models.kernels import native
from mfrlib.models.objectives import Reduction
from mfrlib.models.relu_sae import ReLUOutput, ReLUSAE
from mfrlib.models.sae import SAEOutput, TopKSAE
from mfrlib.models.sparse import Error
from mfrlib.randomness import generator
from mfrlib.training.checkpoint import WEIGHTS, Checkpoint, TrainingState
from mfrlib.training.parallel import device_of, team


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What every experiment's config holds; the defaults are those of the paper's synthetic experiment (§3.2)."""

    seed: int = option(0, "seed of the weights and of the data")
    steps: int = option(10_000, "training steps")
    batch_size: int = option(10_000, "samples per step (§3.2)")
    n_saes: int = option(2, "SAEs trained side by side (§3.2)")
    n_features: int = option(512, "features per SAE (§3.2)")
    k: int | tuple[int, ...] = option(36, "active features per sample, one for all SAEs or one each (§3.2)")
    alpha: float | Literal["calibrate"] = option(0.0, "weight of the mutual feature penalty; 0: none (§3.3)")
    calibration: Literal["balance", "loss"] = option("balance", "rule of alpha=calibrate (R11)")
    alpha_scale: float = option(1.0, "what a calibrated alpha is multiplied by")
    warmup: int = option(0, "steps of cosine warm-up of the penalty (R11)")
    matching: Matching = option("max", "matching in the penalty (R9)")
    direction: Direction = option("one-way", "direction of the penalty (R9b)")
    reinit: Mode = option("off", "when the inactivity statistic is looked at (R10b)")
    reinit_threshold: float = option(1.0, "inactivity above which an SAE starts again (Figure 8)")
    reinit_window: int = option(100, "steps after a start in which reinit=window looks (R10b)")
    reinit_limit: int = option(20, "re-initialisations per SAE before the run is given up")
    inactivity_power: Literal[1, 3] = option(1, "power in the inactivity statistic (R10)")
    decoder: Literal["normalized", "raw"] = option("normalized", "decoder rows (R5)")
    activation: Literal["none", "relu"] = option("none", "what is applied to the k selected entries (R6)")
    decoder_bias: bool = option(False, "learned bias before the encoder and after the decoder (Q9)")
    optimizer: Literal["adamw", "adam"] = option("adamw", "optimiser (R8)")
    learning_rate: float = option(0.01, "learning rate (§3.2)")
    learning_rate_warmup: int = option(0, "steps in which the learning rate rises to it")
    learning_rate_end: float = option(1.0, "learning rate after the last step, as a share: a cosine leads there")
    reduction: Reduction = option("mean", "reconstruction term: mean or sum over the elements of a sample (R12)")
    log_every: int = option(
        10, "steps between records; in the first reinit_window steps all have loss and inactivity", in_key=False
    )
    checkpoint_every: int = option(200, "steps between checkpoints", in_key=False)
    device: str = option("auto", "cpu, cuda, mps, or auto: cuda where there is one", in_key=False)
    compiled: bool = option(False, "compile the step with torch.compile; for GPUs", in_key=False)

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        require_types(self)
        for name in (
            "steps",
            "batch_size",
            "n_saes",
            "n_features",
            "log_every",
            "checkpoint_every",
            "reinit_limit",
        ):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be 1 or more")
        for name in ("seed", "warmup", "reinit_window", "learning_rate_warmup"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "must be 0 or more")
        for name in ("learning_rate", "reinit_threshold", "alpha_scale"):
            require(
                0 < getattr(self, name) < float("inf"),
                name,
                getattr(self, name),
                "must be positive and finite",
            )
        require(0 <= self.learning_rate_end <= 1, "learning_rate_end", self.learning_rate_end, "must be from 0 to 1")
        ks = (self.k,) if isinstance(self.k, int) else self.k
        require(
            isinstance(self.k, int) or len(ks) == self.n_saes,
            "k",
            self.k,
            f"one value, or n_saes = {self.n_saes}",
        )
        require(
            all(1 <= k <= self.n_features for k in ks),
            "k",
            self.k,
            f"between 1 and n_features = {self.n_features}",
        )
        if self.alpha != "calibrate":
            require(
                0 <= self.alpha < float("inf"),
                "alpha",
                self.alpha,
                "must be 0, positive and finite, or 'calibrate'",
            )
        require(self.alpha == 0 or self.n_saes > 1, "alpha", self.alpha, "a penalty needs n_saes of 2 or more")
        require(
            self.device == "auto" or _device_exists(self.device),
            "device",
            self.device,
            "must be auto, cpu, or cuda or mps where there is such a GPU",
        )

    def new_stack(self, d_in: int, draws: torch.Generator) -> Any:
        """Return the stack to train, with fresh weights."""
        return TopKSAE(
            self.n_saes, d_in, self.n_features, self.k,
            decoder=self.decoder, activation=self.activation, decoder_bias=self.decoder_bias,
            generator=draws,
        )  # fmt: skip


Stack = TopKSAE | ReLUSAE  # what can be trained


class Trained(NamedTuple):
    """What training gives: the stack, α as used, the records over steps, the re-initialisations `(step, sae)`."""

    sae: Any
    alpha: float
    metrics: list[dict[str, Any]]
    events: list[tuple[int, int]]


class TrainingDiverged(RuntimeError):
    """NaN or Inf in the data or in a loss."""


Objective = Callable[[Any, Tensor], tuple[Tensor, SAEOutput | Error | ReLUOutput]]
"""From a stack and a batch to the loss of each SAE, a mean over the batch `(sae,)`, and the codes."""


def _device_exists(name: str) -> bool:
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return there.get(name if name == "cpu" else name.split(":")[0], False)


def train(
    config: TrainingConfig,
    data: Batches | Tensor | NDArray[Any] | Iterable[Any],
    *,
    folder: str | os.PathLike[str] | None = None,
    objective: Objective | None = None,
    observe: Callable[[Any], dict[str, Any]] | None = None,
    progress: bool = True,
) -> Trained:
    """Train a stack of SAEs; in several processes at once if `torchrun` started them (`mfrlib.training.parallel`).

    The loss of each SAE is its own reconstruction term plus the whole weighted penalty, so the sum of the
    reconstruction terms plus one penalty has each one's gradient. The penalty is a mean over pairs: its pull on one of
    N SAEs falls as 2 / N.

    Parameters
    ----------
    config : TrainingConfig
    data
        Rows: a tensor or an array `(n, d_in)`, of which every epoch sees each row once, in an order of `config.seed`
        (`mfrlib.TensorBatches`). Or any iterable of such batches, a DataLoader or a generator, which is cut into batches
        of `batch_size` (`mfrlib.data.loader.IteratedBatches`). Or a source, which gives a batch for each step
        (`mfrlib.data.batches.Batches`). Floating point; what is not float32 is converted as it comes in.
    folder : path-like, optional
        Where records (`metrics.jsonl`) and the checkpoint go. If it holds a checkpoint, training goes on from there
        and ends, on CPU, with the same bits as a run that was never stopped; more `steps` than a finished run had
        prolong it, unless its learning rate has come down already. A checkpoint of another config or other data is
        refused: rows are identified by their values, those of an iterable as they are read again.
    objective : callable, optional
        What the SAEs are trained for; by default reconstruction of the batch.
    observe : callable, optional
        Gives further values to record, from the stack.
    progress : bool
        Show a bar with step, loss and rate.

    Raises
    ------
    ConfigError
        If the data are no rows of finite floating-point numbers, fewer than `batch_size`, or an iterator ends too early;
        if the folder holds another run's checkpoint, or a source gives batches of another size than `batch_size`.
    TrainingDiverged
        At the first NaN or Inf, with step, SAE and what to try; the weights so far are in the folder's checkpoint.
    ReinitLimitError
        If an SAE stays above the threshold however often it starts again.
    RankLostError
        If another process of the team is gone.
    MemoryError
        If memory runs out, with what to lower.

    Examples
    --------
    >>> x = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    >>> config = TrainingConfig(steps=5, batch_size=64, n_features=16, k=4, alpha=0.5, device="cpu")
    >>> train(config, x, progress=False).sae
    TopKSAE(n_saes=2, d_in=8, n_features=16, k=4)

    A source has a width, a name, and a batch for each step:

    >>> class Noise:
    ...     d_in, id = 8, "noise"
    ...
    ...     def batch(self, step):
    ...         return torch.randn(64, 8, generator=torch.Generator().manual_seed(step))
    >>> train(config, Noise(), progress=False).sae.dictionary.shape
    torch.Size([2, 16, 8])
    """
    require(folder is None or isinstance(folder, str | os.PathLike), "folder", folder, "must be a path")
    with _advice(config):
        source = as_source(data, config.batch_size, config.seed)
        return _train(config, source, None if folder is None else Path(folder).absolute(), objective, observe, progress)


def _train(
    config: TrainingConfig,
    source: Batches,
    folder: Path | None,
    objective: Objective | None,
    observe: Callable[[Any], dict[str, Any]] | None,
    progress: bool,
) -> Trained:
    native.keep_memory()
    crew, device = team(), device_of(config.device)
    require(crew.size == 1 or config.batch_size >= SHARDS, "batch_size", config.batch_size,
            f"{SHARDS} or more for several processes")  # fmt: skip
    if folder:  # without one, nobody asks whose data they are
        grows = {"steps": _first_default(config, "steps")} if config.learning_rate_end == 1 else {}
        require_own_folder(folder, key_fields(config) | {"data": source.id}, grows)
    sae = config.new_stack(source.d_in, generator(config.seed, WEIGHTS, 0)).to(device)
    state = TrainingState(sae, config, crew)
    checkpoint = Checkpoint(folder, writes=crew.leads)
    checkpoint.restore(state)
    if folder and isinstance(source, IteratedBatches):
        source.resume(state.step, state.seen)
    objective = objective or partial(reconstruct, reduction=config.reduction)
    if config.compiled and device.type == "cuda":
        objective = torch.compile(objective, dynamic=False)
    bad = torch.full((), -1, device=device)  # first step whose loss was not finite; from then on no step is taken
    bar = tqdm(
        total=config.steps, initial=state.step, desc="training", unit="step",
        disable=not progress or not crew.leads, mininterval=0.5 if sys.stderr.isatty() else 10,
    )  # fmt: skip
    with bar:
        for step in range(state.step, config.steps):
            x = source.batch(step) if crew.size == 1 else source.batch(step, crew.shards)
            x = x.to(device, non_blocking=True)
            require(crew.size > 1 or len(x) == config.batch_size, "batch_size", config.batch_size,
                    f"the source gives {len(x)} samples at step {step}")  # fmt: skip
            own, output = objective(sae, x)
            own = own * (len(x) / config.batch_size)
            penalty = state.penalty() if config.alpha else own.new_zeros(())
            terms = torch.cat([own.detach(), penalty.detach()[None]])
            crew.sum_(terms)
            loss = terms[:-1]
            if state.alpha is None:
                state.alpha = _first_alpha(config, loss, terms[-1])
            bad = torch.where((bad < 0) & ~torch.isfinite(terms.sum()), step, bad)
            total = own.sum() + state.alpha * warmup(step, config.warmup) * penalty
            state.learn_at(_learning_rate(config, step))
            state.update(total, skip=(bad >= 0).float())

            # Values leave the device only where they are recorded or decide something: other steps wait for nothing.
            measured = step % config.log_every == 0 or step == config.steps - 1
            looked_at = step < config.reinit_window or state.reinitializer.watches(step)
            state.step = step + 1
            saved = state.step % config.checkpoint_every == 0 or state.step == config.steps
            if (measured or looked_at or saved) and bad >= 0:
                state.step = int(bad)
                state.alpha = state.alpha if state.step else None  # not one calibrated on what is not finite
                if not hasattr(
                    source, "seen"
                ):  # what it has seen by now is more than that step's: the last save stands
                    checkpoint.save(state)
                raise TrainingDiverged(_why(sae, source, objective, state.step, checkpoint.path))
            if measured or looked_at:
                counts, n = sae.usage(output)
                seen = counts.new_full((), n)  # more than batch_size where a batch is of sequences
                crew.sum_(counts, seen)
                statistic = inactivity(counts / seen, sae.k, config.inactivity_power).tolist()
                for one in state.reinitializer.due(step, statistic):
                    state.reinitialize(one)
                values = {"step": step, "loss": loss.tolist(), "inactivity": statistic}
                if measured and config.n_saes > 1:
                    with torch.no_grad():
                        crew.sum_(penalty := state.penalty())
                    values["penalty"] = penalty.item()
                if measured or step < config.reinit_window:
                    checkpoint.record(state, values | (observe(sae) if observe and measured and crew.leads else {}))
                bar.set_postfix_str(f"loss {loss.mean().item():.4g}", refresh=False)
            if saved:
                state.seen = getattr(source, "seen", None)
                checkpoint.save(state)
            bar.update()
    if not state.finite():
        raise TrainingDiverged(f"weights are not finite after the last step, {config.steps - 1}. {_REMEDY}")
    return Trained(sae, float(state.alpha or 0.0), state.metrics, state.reinitializer.events)


def reconstruct(sae: TopKSAE, x: Tensor, reduction: Reduction = "mean") -> tuple[Tensor, Error]:
    """Return the reconstruction loss of each SAE, `(sae,)` (`mfrlib.models.objectives.reconstruction_loss`), and the codes."""
    found = sae.squared_error(x, 1 / (x.numel() if reduction == "mean" else len(x)))
    return found.error, found


@contextmanager
def _advice(config: TrainingConfig) -> Iterator[None]:
    """Turn the many ways in which memory runs out into one error that says what to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        full = isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)
        if not full:
            raise
        sizes = ", ".join(f"{name} = {getattr(config, name)}" for name in ("batch_size", "n_features", "n_saes"))
        raise MemoryError(
            f"memory ran out. Lower one of {sizes}; the last checkpoint is kept. ({str(error).strip().splitlines()[0]})"
        ) from error


def _first_default(config: TrainingConfig, name: str) -> Any:
    """Return what a run's key leaves out: the default that a field was introduced with."""
    return next(one.metadata["introduced"] for one in fields(config) if one.name == name)


def _first_alpha(config: TrainingConfig, loss: Tensor, penalty: Tensor) -> float:
    if config.alpha != "calibrate":
        return float(config.alpha)
    return config.alpha_scale * calibrated_alpha(config.calibration, loss.mean().item(), penalty.item())


def _learning_rate(config: TrainingConfig, step: int) -> float:
    """Return the learning rate of a step: a linear rise, a cosine from the first step to the last; constant by default."""
    rise = min(1.0, (step + 1) / (config.learning_rate_warmup + 1))
    fall = (1 - config.learning_rate_end) * warmup(step, config.steps)
    return config.learning_rate * rise * (1 - fall)


_REMEDY = "Try a smaller learning_rate, a smaller alpha, or a longer warmup."


@torch.no_grad()
def _why(sae: Stack, source: Batches, objective: Objective, step: int, kept: Path | None) -> str:
    """Say what is wrong with a step, by doing it again: the weights are still those that it began with."""
    where = f"; the weights before it are kept in {kept}" if kept and kept.exists() else ""
    try:
        x = source.batch(step).to(sae.weight.device)
    except LookupError:  # of an iterable, whose rows were found to be finite when they were read
        return f"loss is not finite at step {step}{where}. {_REMEDY}"
    if not torch.isfinite(x).all():
        row, column = (~torch.isfinite(x)).nonzero()[0].tolist()
        return f"NaN or Inf in the data at step {step}, row {row}, column {column} of the batch{where}. Clean the data."
    saes = (~torch.isfinite(objective(sae, x)[0])).nonzero().flatten().tolist() or "all (the penalty)"
    return f"loss is not finite at step {step}, SAE {saes}{where}. {_REMEDY}"
