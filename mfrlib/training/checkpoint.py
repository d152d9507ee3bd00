"""The checkpoint of a training on disk, and its records: what it goes on from."""

import dataclasses
import errno
import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from enum import Enum
from functools import partial
from pathlib import Path, PurePath
from types import MethodType
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mfrlib.config import ConfigError, checked, require
from mfrlib.data.files import locked, replacing, save_tensors
from mfrlib.data.identity import Identity, joined
from mfrlib.data.in_memory import digest
from mfrlib.models.sae_files import SAEFileError, json_object
from mfrlib.training.state import TrainingState


def called(objective: Any) -> str:
    """Return the name by which a run's folder knows what it was trained for; `reconstruction` for None, ConfigError without a name.

    With it goes every setting that a `functools.partial`, a dataclass or a module holds: tensors by their values, language models
    by their identity; ConfigError for one that has no such name. What a function closes over, and what an object of any other
    class holds, is not looked at.
    """
    return "reconstruction" if objective is None else _named(objective, called=True)


def _named(value: Any, called: bool = False) -> str:
    """Return a name for a setting, another one for another value; ConfigError for a value that has none, unless it is `called`."""
    if isinstance(getattr(value, "identity", None), Identity):  # a language model
        return repr(joined(str(value.identity), value.identity))
    if isinstance(value, str | bytes | int | float | np.generic | Enum | PurePath | torch.dtype | torch.device | None):
        return repr(value)
    if isinstance(value, Tensor) and value.layout == torch.strided and not (value.is_meta or value.is_quantized):
        return repr(digest(value))
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return _named([str(value.dtype), value.shape, hashlib.sha256(value.tobytes()).hexdigest()[:16]])
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_named, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(sorted(f'{_named(key)}: {_named(one)}' for key, one in value.items()))}}}"
    settings, its = {}, value.__self__ if isinstance(value, MethodType) else value
    name: str = getattr(value, "__qualname__", getattr(value, "__name__", type(value).__qualname__))
    if isinstance(value, partial):
        name, settings = _named(value.func, called=True), dict(enumerate(value.args)) | value.keywords
    elif dataclasses.is_dataclass(its) and not isinstance(its, type):
        settings = {one.name: getattr(its, one.name) for one in dataclasses.fields(its)}
    elif isinstance(its, nn.Module):
        held = {**vars(its), **its._parameters, **its._buffers, **its._modules}
        settings = {key: one for key, one in held.items() if key == "training" or key not in vars(nn.Module())}
    elif "<lambda>" in name or not (called or hasattr(its, "__name__")):
        allowed = "must have a name where there is a folder: write a function, whose settings are numbers, strings, tensors, arrays, functions, modules, dataclasses, or lists or dicts of these"
        raise ConfigError(f"objective: {allowed}, given {name!r}")
    shown = [f"{key}={_named(one)}" for key, one in settings.items()]
    return f"{name}({', '.join(shown)})" if shown else name


@contextmanager
def sole(folder: Path | None, writes: bool) -> Iterator[None]:
    """Keep a run's folder from other processes that would train in it; ConfigError if one does already. One that cannot be written to is read."""
    if not folder or not writes:
        yield
        return
    require(not folder.exists() or folder.is_dir(), "folder", str(folder), "must be a folder, not a file")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = locked(folder / ".lock", 0)
    except TimeoutError as error:
        another = "another process is training in it; wait until it ends, or take another folder"
        raise ConfigError(f"folder: {another}, given {str(folder)!r}") from error
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS) or not (folder / "config.json").exists():
            raise
        held = nullcontext()  # nobody writes here: a run that is finished can still be opened
    with held:
        yield


def require_own_folder(folder: Path, identity: Mapping[str, Any], defaults: Mapping[str, Any], grows: bool) -> None:
    """Refuse a folder that holds another run than one of this identity; else note the identity there, in `config.json`.

    The identity has `data`, which no other `config.json` has; what it leaves out is in `defaults`. If it `grows`, it may have more
    `steps` than the note. Raises ConfigError if the folder holds another run's checkpoint, with the values that differ, one
    without a note, or something else, such as a saved SAE.
    """
    note, now = folder / "config.json", json.loads(json.dumps(identity))
    begun, noted = (folder / "checkpoint.safetensors").exists(), {}
    with suppress(OSError, SAEFileError):
        noted = json_object(note)
    another = "holds something else than a training run, or a run whose config.json was changed. Take another folder"
    require("data" in noted or not note.exists(), "folder", str(folder), another)
    nameless = "holds a checkpoint without config.json, which says whose it is. Take another folder"
    require(bool(noted) or not begun, "folder", str(folder), nameless)
    if begun:
        missing = json.loads(json.dumps({**defaults, "objective": now.get("objective")}))  # which once was not noted
        there, here = missing | noted, missing | now
        differ = [name for name in sorted({*there, *here}) if there.get(name) != here.get(name)]
        if not differ:
            return
        grows = grows and differ == ["steps"]
        which = "; ".join(f"{name} is {there.get(name)!r} there, {here.get(name)!r} here" for name in differ)
        remedy = f"Give {there['steps']} steps or more" if grows else "Give what is there"
        allowed = f"holds the checkpoint of another run: {which}. {remedy}, or take another folder"
        require(grows and there["steps"] < here["steps"], "folder", str(folder), allowed)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(note) as file:  # each process of a team writes it, and none may read half of it
        file.write(json.dumps(now).encode())


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
        tensors |= {"silent": state.revival.silent.cpu()} if state.revival else {}
        started = state.reinitializer.state()
        rest = {"step": state.step, "alpha": state.alpha, "reinitializer": started, "seen": state.seen}
        temporary = self.path.with_suffix(".tmp")
        save_tensors(tensors, temporary, {"state": json.dumps(rest)})
        os.replace(temporary, self.path)

    def restore(self, state: TrainingState) -> None:
        """Go on from the checkpoint, if there is a sound one; ConfigError if it or its records were changed by somebody else."""
        opened = None
        try:
            opened = safe_open(self.path, "pt") if self.path and self.path.exists() else None
        except SafetensorError as error:
            warnings.warn(f"checkpoint {self.path} is damaged, training starts again: {error}", stacklevel=3)
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
            rest = {**json.loads(file.metadata()["state"])}
            kinds = {"step": int, "alpha": float | None, "seen": str | None, "born": list[int]}
            rest = checked({**rest.pop("reinitializer"), **rest}, kinds | {"events": list[list[int]]})
            step, born, there = rest["step"], rest["born"], {*file.keys()}
            if not 0 <= step <= state.config.steps or len(born) != state.config.n_saes:
                raise ValueError(f"step {step} of {state.config.steps}, with {len(born)} of {state.config.n_saes} SAEs")
            tensors: dict[str, Tensor] = dict(state.sae.named_parameters())
            tensors |= {"silent": state.revival.silent} if state.revival else {}
            for (name, one), part in state.slices.items():
                if born[one] < step or f"optimizer/{name}/{one}/step" in there:  # an SAE that has just started has none
                    tensors |= {f"optimizer/{name}/{one}/{key}": value for key, value in state.moments_of(part).items()}
            if there != tensors.keys():
                raise ValueError(f"missing, or too many: {', '.join(sorted(there ^ tensors.keys()))}")
            for name, tensor in tensors.items():
                value = file.get_tensor(name)
                if (value.shape, value.dtype) != (tensor.shape, tensor.dtype):  # of another, memory would be overrun
                    raise ValueError(f"{name} is {value.dtype} {[*value.shape]}, not {tensor.dtype} {[*tensor.shape]}")
                tensor.detach().copy_(value)
        state.step, state.alpha, state.seen = step, rest["alpha"], rest.get("seen")
        state.reinitializer.restore(rest)
        if not self.writes:
            return
        # What was recorded after the checkpoint will be recorded again; the last line may be half-written.
        metrics = self.folder / "metrics.jsonl"  # type: ignore[operator]
        text = metrics.read_text()
        lines = [line for line in text.splitlines() if line.strip()]
        for line in lines:
            try:
                values = json.loads(line)
            except json.JSONDecodeError:
                if line is not lines[-1]:
                    raise
                break
            if values["step"] >= state.step:
                break
            state.metrics.append(values)
        if state.step and not state.metrics:
            raise ValueError(f"metrics.jsonl has no record of {state.step} steps")
        if text != (kept := "".join(json.dumps(values) + "\n" for values in state.metrics)):
            with replacing(metrics) as file:
                file.write(kept.encode())
