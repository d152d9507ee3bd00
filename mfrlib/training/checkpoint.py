"""What training must remember to go on: weights, optimiser, α, re-initialisations, records; and its checkpoint on disk."""

import json
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mfrlib.method.matching import Matches
from mfrlib.method.penalty import mutual_feature_penalty
from mfrlib.method.reinit import Reinitializer
from mfrlib.models.relu_sae import ReLUSAE
from mfrlib.models.sae import TopKSAE
from mfrlib.randomness import generator
from mfrlib.training.parallel import Team
from mfrlib.training.revival import Revival

WEIGHTS, RESTART = 1, 2  # streams of a seed that belong to training; data use theirs


class TrainingState:
    """Everything that changes while training: weights, optimiser, α, re-initialisations, records, the step."""

    def __init__(self, sae: TopKSAE | ReLUSAE, config: Any, team: Team | None = None) -> None:
        self.sae, self.config, self.team = sae, config, team or Team()
        self.step, self.alpha, self.metrics = 0, None, []  # type: int, float | None, list[dict[str, Any]]
        self.seen: str | None = None  # hash of the rows trained on, where only that says which they are
        self.reinitializer = Reinitializer(
            config.n_saes, config.reinit, config.reinit_threshold, config.reinit_window, config.reinit_limit
        )
        self.revival = Revival(config, self.team, sae) if config.revival else None  # type: ignore[arg-type]
        self.matches = Matches()  # spares searches; it need not outlive this process
        # Each SAE's slice of a parameter is one to the optimiser (same storage), so that its state, step count
        # included, can be reset alone.
        self.slices: dict[tuple[str, int], nn.Parameter] = {}
        for name, parameter in sae.named_parameters():
            for one in range(config.n_saes):
                self.slices[name, one] = nn.Parameter(parameter.data[one])
        decay = config.weight_decay if config.optimizer == "adamw" else 0.0
        make = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        self.optimizer = make(self.slices.values(), lr=config.learning_rate, weight_decay=decay, fused=True)

    def penalty(self) -> Tensor:
        """Return the mutual feature penalty of the stack as it is, or this process's part of it."""
        part = self.team.rank, self.team.size
        return mutual_feature_penalty(self.sae.weight, self.config.matching, self.config.direction, part, self.matches)

    def optimizer_step(self, gradients: Iterable[Tensor], rate: float, skip: Tensor | None = None) -> None:
        """Take one step at a learning rate along the gradients of all parameters; none where the flag `skip` is 1."""
        for (name, _), gradient in zip(self.sae.named_parameters(), gradients, strict=True):
            for one in range(self.config.n_saes):
                self.slices[name, one].grad = gradient[one]
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # PyTorch's fused optimisers read this flag on the device: nothing waits for it.
        self.optimizer.found_inf = skip  # type: ignore[attr-defined]
        self.optimizer.step()

    def finite(self) -> bool:
        """Tell whether all weights are finite."""
        return all(bool(torch.isfinite(parameter).all()) for parameter in self.sae.parameters())

    def reinitialize(self, one: int) -> None:
        """Give one SAE fresh weights and a fresh optimiser state."""
        life = sum(sae == one for _, sae in self.reinitializer.events)
        self.sae.reinitialize(one, generator(self.config.seed, RESTART, one, life))
        if self.revival:
            self.revival.silent[one] = 0
        for (_, sae), part in self.slices.items():
            if sae == one:
                self.optimizer.state.pop(part, None)


class Checkpoint:
    """The folder of an unfinished run: `checkpoint.safetensors`, replaced atomically, and `metrics.jsonl`, appended to."""

    def __init__(self, folder: Path | None, writes: bool = True) -> None:
        self.folder, self.writes = folder, writes
        self.path = folder / "checkpoint.safetensors" if folder else None
        if folder:
            folder.mkdir(parents=True, exist_ok=True)

    def record(self, state: TrainingState, values: dict[str, Any]) -> None:
        """Append one record."""
        state.metrics.append(values)
        if self.folder and self.writes:
            with (self.folder / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(values) + "\n")

    def save(self, state: TrainingState) -> None:
        """Replace the checkpoint in one step."""
        # Weights that are no longer finite must not replace those learned before.
        if not self.path or not self.writes or not state.finite():
            return
        tensors = {name: value.detach().cpu() for name, value in state.sae.named_parameters()}
        for (name, one), part in state.slices.items():
            for key, value in state.optimizer.state[part].items():
                tensors[f"optimizer/{name}/{one}/{key}"] = value.cpu()
        if state.revival:
            tensors["silent"] = state.revival.silent.cpu()
        rest = {
            "step": state.step,
            "alpha": state.alpha,
            "reinitializer": state.reinitializer.state(),
            "seen": state.seen,
        }
        temporary = self.path.with_suffix(".tmp")
        save_file(tensors, temporary, metadata={"state": json.dumps(rest)})
        os.replace(temporary, self.path)

    def _open(self) -> Any:
        if not self.path or not self.path.exists():
            return None
        try:
            return safe_open(self.path, "pt")
        except SafetensorError as error:
            warnings.warn(f"checkpoint {self.path} is damaged, training starts again: {error}", stacklevel=4)
            return None

    def restore(self, state: TrainingState) -> None:
        """Go on from the checkpoint, if there is a sound one."""
        opened = self._open()
        if opened is None:
            if self.folder and self.writes:
                (self.folder / "metrics.jsonl").write_text("")
            return
        with opened as file:
            rest = json.loads(file.metadata()["state"])
            with torch.no_grad():
                for name, parameter in state.sae.named_parameters():
                    parameter.copy_(file.get_tensor(name))
            if state.revival:
                state.revival.silent.copy_(file.get_tensor("silent"))
            for key in file.keys():  # noqa: SIM118 - not a dict
                if key.startswith("optimizer/"):
                    _, name, one, what = key.split("/")
                    part = state.slices[name, int(one)]
                    value = file.get_tensor(key)
                    state.optimizer.state[part][what] = value.to(part.device)  # fused: the step count too
        state.step, state.alpha, state.seen = rest["step"], rest["alpha"], rest.get("seen")
        state.reinitializer.restore(rest["reinitializer"])
        if not self.writes:
            return
        # What was recorded after the checkpoint will be recorded again; the last line may be half-written.
        metrics = self.folder / "metrics.jsonl"  # type: ignore[operator]
        kept = []
        for line in metrics.read_text().splitlines():
            try:
                values = json.loads(line)
            except json.JSONDecodeError:
                break
            if values["step"] >= state.step:
                break
            kept.append(values)
        state.metrics = kept
        temporary = metrics.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(values) + "\n" for values in kept))
        os.replace(temporary, metrics)
