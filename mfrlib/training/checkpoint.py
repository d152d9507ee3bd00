"""The checkpoint of a training on disk, and its records: what it goes on from."""

import dataclasses
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mfrlib.config import ConfigError, require
from mfrlib.data.files import locked, save_tensors
from mfrlib.data.identity import joined
from mfrlib.data.in_memory import digest
from mfrlib.training.state import TrainingState


def called(objective: Any) -> str:
    """Return the name by which a run's folder knows what it was trained for; `reconstruction` for None, ConfigError without a name.

    With it go numbers, strings, tensors and language models that a `functools.partial` or a dataclass holds; not those around
    a function.
    """
    given = getattr(objective, "func", objective)  # of a partial
    name = getattr(given, "__qualname__", type(given).__qualname__) if given else "reconstruction"
    require("<lambda>" not in name, "objective", name, "must have a name where there is a folder: write a function")
    settings = dict(enumerate(getattr(objective, "args", ()))) | getattr(objective, "keywords", {})
    if dataclasses.is_dataclass(objective):
        settings = {one.name: getattr(objective, one.name) for one in dataclasses.fields(objective)}
    shown = {key: digest(one) if isinstance(one, Tensor) else one for key, one in settings.items()}
    shown |= {key: joined(str(one.identity), one.identity) for key, one in settings.items() if hasattr(one, "identity")}
    plain = [f"{key}={one!r}" for key, one in shown.items() if isinstance(one, str | int | float | None)]
    return f"{name}({', '.join(plain)})" if plain else name


@contextmanager
def sole(folder: Path | None, writes: bool) -> Iterator[None]:
    """Keep a run's folder from other processes that would train in it; ConfigError if one does already."""
    if not folder or not writes:
        yield
        return
    require(not folder.exists() or folder.is_dir(), "folder", str(folder), "must be a folder, not a file")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        held = locked(folder / ".lock", 0)
    except TimeoutError as error:
        another = "another process is training in it; wait until it ends, or take another folder"
        raise ConfigError(f"folder: {another}, given {str(folder)!r}") from error
    with held:
        yield


class Checkpoint:
    """The folder of an unfinished run: `checkpoint.safetensors`, replaced atomically, and `metrics.jsonl`, appended to."""

    def __init__(self, folder: Path | None, writes: bool = True) -> None:
        self.folder, self.writes = folder, writes
        self.path = folder / "checkpoint.safetensors" if folder else None

    def record(self, state: TrainingState, values: dict[str, Any]) -> None:
        """Append one record."""
        state.metrics.append(values)
        if self.folder and self.writes:
            with (self.folder / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(values) + "\n")

    def save(self, state: TrainingState) -> None:
        """Replace the checkpoint in one step."""
        # Weights that are no longer finite must not replace those learned before.
        if not self.path or not self.writes or not state.sae.finite():
            return
        tensors = {name: value.detach().cpu() for name, value in state.sae.named_parameters()}
        for (name, one), part in state.slices.items():
            for key, value in state.moments.get(part, {}).items():
                tensors[f"optimizer/{name}/{one}/{key}"] = value.cpu()
        if state.revival:
            tensors["silent"] = state.revival.silent.cpu()
        started = state.reinitializer.state()
        rest = {"step": state.step, "alpha": state.alpha, "reinitializer": started, "seen": state.seen}
        temporary = self.path.with_suffix(".tmp")
        save_tensors(tensors, temporary, {"state": json.dumps(rest)})
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
        """Go on from the checkpoint, if there is a sound one; ConfigError if it or its records were changed by somebody else."""
        opened = self._open()
        if opened is None:
            if self.folder and self.writes:
                (self.folder / "metrics.jsonl").write_text("")
            return
        try:
            self._take(opened, state)
        except (FileNotFoundError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise ConfigError(
                f"folder: its checkpoint or its records were changed ({type(error).__name__}: {error}); delete them to train "
                f"anew, given {str(self.folder)!r}"
            ) from error

    def _take(self, opened: Any, state: TrainingState) -> None:
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
                    state.moments.setdefault(part, {})[what] = value.to(part.device)  # fused: the step count too
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
