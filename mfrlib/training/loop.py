"""The training loop of every experiment: one stack of SAEs, one step for all of them, resumable to the bit."""

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from mfrlib.config import key_fields, require
from mfrlib.data.batches import SHARDS, Batches
from mfrlib.data.loader import IteratedBatches, as_source
from mfrlib.environment import absolute, shows
from mfrlib.method.penalty import warmup
from mfrlib.method.reinit import inactivity
from mfrlib.models.kernels import compiled
from mfrlib.models.objectives import Reduction
from mfrlib.models.relu_sae import ReLUOutput, ReLUSAE
from mfrlib.models.sae import SAEOutput, TopKSAE
from mfrlib.models.sparse import Error
from mfrlib.randomness import WEIGHTS, generator, usual_defaults
from mfrlib.training import failures, parallel
from mfrlib.training.checkpoint import Checkpoint, called, require_own_folder, sole
from mfrlib.training.config import TrainingConfig
from mfrlib.training.failures import REMEDY, TrainingDiverged, asked, gradients, memory_advice, observed, why_not_finite
from mfrlib.training.state import TrainingState

Stack = TopKSAE | ReLUSAE  # what can be trained
PRECISION = torch.float32  # of weights and moments, whatever the caller's default


class Trained(NamedTuple):
    """What training gives: the stack, α as used (0.0 without a penalty), records, and re-initialisations `(step, sae)`.

    A record has `step`, for each SAE `loss` (without the penalty) and `inactivity`, for two SAEs or more `penalty`, and what `observe` gave.
    Loss and inactivity are of the step's batch, before the weights change; the penalty and what `observe` gave are of the weights after it.
    """

    sae: Any
    alpha: float
    metrics: list[dict[str, Any]]
    events: list[tuple[int, int]]

    @property
    def weights(self) -> dict[str, Tensor]:
        """The stack's parameters by name, as safetensors writes them."""
        return {name: value.detach().cpu().contiguous() for name, value in self.sae.named_parameters()}


Objective = Callable[[Any, Tensor], tuple[Tensor, SAEOutput | Error | ReLUOutput]]
"""From a stack and a batch to the loss of each SAE, a mean over the batch `(sae,)`, and the codes."""


def train(
    config: TrainingConfig, data: Batches | Tensor | NDArray[Any] | Iterable[Any], *,
    folder: str | os.PathLike[str] | None = None, objective: Objective | None = None,
    observe: Callable[[Any], dict[str, Any]] | None = None, progress: bool = True,
) -> Trained:  # fmt: skip
    """Train a stack of SAEs; in several processes at once if `torchrun` started them (`mfrlib.training.parallel`).

    The loss of each SAE is its own reconstruction term plus the whole weighted penalty, so the sum of the reconstruction terms
    plus one penalty has each one's gradient. The penalty is a mean over pairs: its pull on one of N SAEs falls as 2 / N.

    Parameters
    ----------
    config : TrainingConfig
    data
        Rows: a tensor or an array `(n, d_in)`, of which every epoch sees each row once, in an order of `config.seed`
        (`mfrlib.TensorBatches`). Or any iterable of such batches, a DataLoader or a generator, which is cut into batches
        of `batch_size` (`mfrlib.data.loader.IteratedBatches`). Or a source, which gives a batch for each step
        (`mfrlib.data.batches.Batches`). Rows are floating point and converted to float32; a source gives float32 (TypeError otherwise). A warning says where their unit is far from what the optimiser's steps suit.
    folder : path-like, optional
        Where records (`metrics.jsonl`) and the checkpoint go. If it holds a checkpoint, training goes on from there
        and ends, on CPU, with the same bits as a run that was never stopped; more `steps` than a finished run had
        prolong it, unless its learning rate has come down already. A checkpoint of another config or other data is
        refused: rows are identified by their values, those of an iterable as they are read again, a source by its `id`, an
        objective by its name and settings (`mfrlib.training.checkpoint.called`).
    objective : callable, optional
        What the SAEs are trained for; by default reconstruction of the batch.
    observe : callable, optional
        Gives further values to record from the stack, every `log_every` steps: a dict that JSON can hold.
    progress : bool
        Show a bar with step, loss and rate.

    Raises
    ------
    ConfigError
        If an argument has another type; if the data are no rows of finite floating-point numbers, fewer than `batch_size`, or an iterator ends too early;
        if the folder holds another run's checkpoint, or another process trains in it; if a source gives no tensor, or batches of
        another size than `batch_size`; if the processes of a team were given different runs; if there is no loss to calibrate `alpha` on.
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
    >>> import torch
    >>> from mfrlib import TrainingConfig, train
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
    require(isinstance(config, TrainingConfig), "config", config, "must be a TrainingConfig")
    require(folder is None or isinstance(folder, str | os.PathLike), "folder", folder, "must be a path")
    for name, value in (("objective", objective), ("observe", observe)):
        require(value is None or callable(value), name, value, "must be a function")
    place = None if folder is None else Path(absolute(folder))
    # Whatever the caller has set for itself: no gradients, another default type or device.
    with memory_advice(config), torch.inference_mode(False), torch.enable_grad(), usual_defaults(PRECISION):
        source = as_source(data, config.batch_size, config.seed)
        sae = config.new_stack(source.d_in, generator(config.seed, WEIGHTS, 0))
        sae = sae.to(parallel.device_of(config.device), PRECISION)
        needed = f"a {type(sae).__name__} needs a function from SAEs and a batch to the loss of each, and their output"
        require(objective is not None or hasattr(sae, "squared_error"), "objective", objective, needed)
        require(not (config.revival and objective), "revival", config.revival, "must be 0 with your own objective")
        state = TrainingState(sae, config, parallel.team())
        aim = state.revival or partial(reconstruct, reduction=config.reduction)
        aim = partial(asked, objective) if objective else aim
        with sole(place, state.team.leads):
            checkpoint = _checkpoint(state, source, objective, place)
            _steps(state, checkpoint, source, aim, observe, progress)
    if not state.sae.finite():
        raise TrainingDiverged(f"weights are not finite after the last step, {config.steps - 1}. {REMEDY}")
    return Trained(sae, float(state.alpha or 0.0), state.metrics, state.reinitializer.events)


def _checkpoint(state: TrainingState, source: Batches, objective: Objective | None, folder: Path | None) -> Checkpoint:
    """Open the folder of a run, refusing another run's, and go on from what it holds."""
    config, team = state.config, state.team
    allowed = f"{SHARDS} or more for several processes"
    require(team.size == 1 or config.batch_size >= SHARDS, "batch_size", config.batch_size, allowed)
    if folder or team.size > 1:  # otherwise nobody asks whose data they are
        its, allowed = getattr(source, "id", None), "a source needs an id, a string that says whose data they are"
        require(isinstance(its, str), "data", f"{type(source).__name__}, id {its!r}", allowed)
        first = {one.name: one.metadata.get("introduced", one.default) for one in fields(config)}  # left out of a key
        identity = key_fields(config) | {"data": its}
        begins = source.begins if isinstance(source, IteratedBatches) else None
        team.require_alike(first | identity | {"start of the data": begins})
        if folder:
            identity["objective"] = called(objective)
            require_own_folder(folder, identity, first, config.learning_rate_end == 1)
    checkpoint = Checkpoint(folder, writes=team.leads)
    checkpoint.restore(state)
    if folder and isinstance(source, IteratedBatches):
        source.resume(state.step, state.seen)
    return checkpoint


def _steps(state: TrainingState, checkpoint: Checkpoint, source: Batches, objective: Objective,
           observe: Callable[[Any], dict[str, Any]] | None, progress: bool) -> None:  # fmt: skip
    sae: Any = state.sae
    config, team, device = state.config, state.team, sae.weight.device
    compiled.keep_memory()
    forward = torch.compile(objective, dynamic=False) if config.compiled and device.type == "cuda" else objective
    bad = torch.full((), -1, device=device)  # first step whose loss was not finite; from then on no step is taken
    shown = shows(progress) and team.leads
    bar = tqdm(total=config.steps, initial=state.step, desc="training", unit="step", disable=not shown,
               mininterval=0.5 if shown and sys.stderr.isatty() else 10)  # fmt: skip
    theirs = torch.autocast(device.type, torch.get_autocast_dtype(device.type), torch.is_autocast_enabled(device.type))
    with bar, torch.autocast(device.type, enabled=False):
        for step in range(state.step, config.steps):
            with theirs:  # a source may run a model
                x = failures.batch_of(source, step, team, config.batch_size).to(device, non_blocking=True)
            own, output = forward(sae, x)
            own = own * (len(x) / config.batch_size)
            penalty = state.penalty() if config.alpha else own.new_zeros(())
            terms = torch.cat([own.detach(), penalty.detach()[None]])
            team.sum_(terms)
            loss = terms[:-1]
            if state.alpha is None:
                failures.warn_of_scale(x)
                state.alpha = config.first_alpha(loss.mean().item(), terms[-1].item())
            bad = torch.where((bad < 0) & ~torch.isfinite(terms.sum()), step, bad)
            total = own.sum() + state.alpha * warmup(step, config.warmup) * penalty
            slopes = gradients(own, total, sae)
            team.sum_(*slopes)
            state.optimizer_step(slopes, config.learning_rate_at(step), skip=(bad >= 0).float())

            # Values leave the device only where they are recorded or decide something: other steps wait for nothing.
            measured = step % config.log_every == 0 or step == config.steps - 1
            looked_at = step < config.reinit_window or state.reinitializer.watches(step)
            state.step = step + 1
            saved = state.step % config.checkpoint_every == 0 or state.step == config.steps
            if (measured or looked_at or saved) and bad >= 0:
                state.step = int(bad)
                state.alpha = state.alpha if state.step else None  # not one calibrated on what is not finite
                if not hasattr(source, "seen"):  # by now it has seen more than that step's: the last save stands
                    checkpoint.save(state)
                raise TrainingDiverged(why_not_finite(sae, source, objective, state.step, checkpoint.path))
            if measured or looked_at:
                values = _looked_at(state, step, loss, output, measured)
                if measured or step < config.reinit_window:
                    values = observed(observe, sae, values) if observe and measured and team.leads else values
                    checkpoint.record(state, values)
                bar.set_postfix_str(f"loss {loss.mean().item():.4g}", refresh=False)
            if saved:
                state.seen = getattr(source, "seen", None)
                checkpoint.save(state)
            bar.update()


def _looked_at(state: TrainingState, step: int, loss: Tensor, output: Any, measured: bool) -> dict[str, Any]:
    """Return what is recorded of a step, and start the SAEs again whose inactivity asks for it."""
    sae, config, team = state.sae, state.config, state.team
    counts, n = sae.usage(output)
    seen = counts.new_full((), n)  # more than batch_size where a batch is of sequences
    team.sum_(counts, seen)
    statistic = inactivity(counts / seen, sae.k, config.inactivity_power).tolist()
    for one in state.reinitializer.due(step, statistic):
        state.reinitialize(one)
    values = {"step": step, "loss": loss.tolist(), "inactivity": statistic}
    if measured and config.n_saes > 1:
        with torch.no_grad():
            team.sum_(penalty := state.penalty())
        values["penalty"] = penalty.item()
    return values


def reconstruct(sae: TopKSAE, x: Tensor, reduction: Reduction = "mean") -> tuple[Tensor, Error]:
    """Return the reconstruction loss of each SAE, `(sae,)` (`mfrlib.models.objectives.reconstruction_loss`), and the codes."""
    found = sae.squared_error(x, 1 / (x.numel() if reduction == "mean" else len(x)))
    return found.error, found
