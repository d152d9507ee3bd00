"""Activations on disk: the model runs over its text once, and every seed and every stack of SAEs reads the result.

For each hook a plain file of float32 and a JSON note with its checksum. Both are written under another name, flushed and
renamed, the note last: where a note is, its file is whole. Names are a hash of the model's weights, the tokens,
the hook and the positions left out.
"""

import hashlib
import json
import os
import warnings
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from mfrlib.data.files import replacing, require_whole
from mfrlib.data.text.sequences import Sequences
from mfrlib.environment import shows
from mfrlib.language_models.activations import Block, ModelReader

FORMAT = 1
"""Version of what a file holds; raise it whenever the same model and tokens would give other activations."""


class DiskReader:
    """Activations read from disk, sequence by sequence."""

    def __init__(self, sequences: Sequences, skip: int, files: dict[str, tuple[Path, int]]) -> None:
        self.sequences, self.skip, self.hooks, self._files = sequences, skip, tuple(files), files

    def width(self, hook: str) -> int:
        """Return the width at a hook."""
        return self._files[hook][1]

    def read(self, chosen: NDArray[np.int64]) -> Block:
        """Return the activations of the sequences asked for."""
        kept = self.sequences.length - self.skip
        found = {}
        for hook, (path, width) in self._files.items():
            mapped = np.memmap(path, dtype="<f4", mode="r", shape=(len(self.sequences), kept, width))
            found[hook] = torch.from_numpy(mapped[chosen].astype(np.float32, copy=False))
        return Block(found)


def cached(reader: ModelReader, folder: str | os.PathLike[str], *, progress: bool = True) -> DiskReader:
    """Return the reader's activations from disk, running the model where they are missing or do not match their checksum.

    Takes four bytes for each position and dimension: 2 million tokens of GPT-2 Small are 6 GB a hook.

    Parameters
    ----------
    reader : ModelReader
        The hooks that are missing are computed in one forward pass.
    folder : path-like
        Where the files lie.
    progress : bool
        Show a bar while the model runs.

    Raises
    ------
    ActivationError
        If an activation is not finite; nothing is kept then.
    OSError
        If the folder cannot be written.

    Warns
    -----
    UserWarning
        If a file is damaged; it is made again.
    """
    folder = Path(folder)
    kept = reader.sequences.length - reader.skip
    files = {hook: (folder / f"{_key(reader, hook)}.f32", reader.width(hook)) for hook in reader.hooks}
    sizes = {hook: 4 * len(reader.sequences) * kept * width for hook, (_, width) in files.items()}
    missing = [hook for hook, (path, _) in files.items() if not _sound(path, sizes[hook])]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        _compute(reader, {hook: files[hook][0] for hook in missing}, progress)
    return DiskReader(reader.sequences, reader.skip, files)


def _compute(reader: ModelReader, paths: dict[str, Path], progress: bool) -> None:
    part = ModelReader(reader.model, reader.sequences, list(paths), skip=reader.skip, batch_size=reader.batch_size)
    digests = {hook: hashlib.sha256() for hook in paths}
    with ExitStack() as files:
        opened = {hook: files.enter_context(replacing(path)) for hook, path in paths.items()}
        starts = range(0, len(part.sequences), part.batch_size)
        for start in tqdm(starts, desc="activations", unit="batch", leave=False, disable=not shows(progress)):
            chosen = np.arange(start, min(start + part.batch_size, len(part.sequences)))
            for hook, value in part.read(chosen).items():
                data = value.numpy().astype("<f4", copy=False).tobytes()
                digests[hook].update(data)
                opened[hook].write(data)
    for hook, path in paths.items():
        about = {"hook": hook, "data": part.sequences.id, "sha256": digests[hook].hexdigest()}
        with replacing(path.with_suffix(".json")) as file:
            file.write(json.dumps(about, indent=1).encode())


def _key(reader: ModelReader, hook: str) -> str:
    identity = [FORMAT, reader.model.hash, reader.sequences.hash, hook, reader.skip]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]


def _sound(path: Path, size: int) -> bool:
    note = path.with_suffix(".json")
    if not note.exists():
        return False
    try:
        about = json.loads(note.read_text(encoding="utf-8"))
        require_whole(path, size, about["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        warnings.warn(f"cached activations {path} are damaged ({error}) and made again", stacklevel=4)
        note.unlink(missing_ok=True)
        return False
    return True
