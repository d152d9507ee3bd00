"""A run: what it holds, its key, and its files, which are written in one step and checksummed.

The key is a hash of the experiment, of the config's fields that differ from the defaults they were introduced with, and of
the data's declared id.
"""

import dataclasses
import gzip
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mfrbook.store.behaviour import is_current
from mfrbook.store.retired import without_retired
from mfrlib.config import key_fields
from mfrlib.data.files import save_tensors, sha256

if TYPE_CHECKING:  # planning, which a scheduler does in every job, does without torch
    from torch import Tensor

CHECKSUMS, METRICS = "checksums.json", "metrics.jsonl.gz"


@dataclass
class Run:
    """One finished run.

    Attributes
    ----------
    experiment, config, data_id
        What was run; `config` holds every field, without those retired since.
    results : dict
        Final numbers, plain JSON.
    metrics : list of dict
        Records over steps, kept to nine significant digits.
    arrays : dict of ndarray
        Small arrays that figures are drawn from.
    weights : dict of Tensor
        Empty where an archive left them out.
    provenance : dict
        Commit, behaviour (`mfrbook.store.behaviour`), versions, hardware, wall time, data hash; `corrected`, where a number was
        measured again later, says which and why.
    stale : bool
        Whether the code has changed its behaviour since.
    """

    experiment: str
    config: dict[str, Any]
    data_id: str
    results: dict[str, Any]
    metrics: list[dict[str, Any]] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    weights: "dict[str, Tensor]" = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    key: str = ""

    @property
    def stale(self) -> bool:
        """Whether the run was made by code that behaves otherwise than today's."""
        return not is_current(self.experiment, self.provenance)

    def series(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return steps `(record,)` and values `(record,)` or `(record, sae)` of a recorded metric."""
        kept = [record for record in self.metrics if name in record]
        return np.array([record["step"] for record in kept]), np.array([record[name] for record in kept])


def run_key(experiment: str, config: Any, data_id: str) -> str:
    """Return the key of a run, 16 hexadecimal digits."""
    identity = {"experiment": experiment, "config": key_fields(config), "data": data_id}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def write(run: Run, entry: Path, within: Path | None = None) -> None:
    """Write a run beside its place, or `within` a folder, and rename it there: no half-written run is ever read."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    within = within or entry.parent
    temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=within))
    try:
        head = {
            name: getattr(run, name) for name in ("experiment", "key", "config", "data_id", "results", "provenance")
        }
        (temporary / "run.json").write_text(json.dumps(head, indent=1) + "\n", encoding="utf-8")
        records = "".join(json.dumps(_rounded(record)) + "\n" for record in run.metrics)
        (temporary / METRICS).write_bytes(gzip.compress(records.encode(), mtime=0))
        np.savez_compressed(temporary / "arrays.npz", **run.arrays)  # type: ignore[arg-type]
        if run.weights:
            save_tensors(run.weights, temporary / "weights.safetensors")
        sums = {file.name: sha256(file) for file in sorted(temporary.iterdir())}
        (temporary / CHECKSUMS).write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")
        temporary.chmod(0o755)
        with tempfile.TemporaryDirectory(prefix=".replaced-", dir=within) as aside:
            old = Path(aside) / entry.name
            if entry.exists():
                os.replace(entry, old)
            try:
                os.replace(temporary, entry)
            except BaseException:
                if old.exists():
                    os.replace(old, entry)
                raise
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _rounded(record: Mapping[str, Any]) -> Any:
    """Return a record with nine significant digits, which tell every float32 apart; the others only take up space."""
    return json.loads(json.dumps(record), parse_float=lambda text: float(f"{float(text):.9g}"))


def read(entry: Path, *, weights: bool = True) -> Run:
    """Read a run, checking every file against its checksum.

    Parameters
    ----------
    entry
        Its folder.
    weights
        Whether to load the weights, which needs torch.

    Raises
    ------
    ValueError
        If a file is missing, damaged or not in the list of checksums, or the run is not the one that its folder names.
    """
    with _reading(entry / CHECKSUMS):
        sums = json.loads((entry / CHECKSUMS).read_text(encoding="utf-8"))
        if not isinstance(sums, dict):
            raise ValueError(f"must be an object, given {sums!r}")
        records = METRICS if METRICS in sums else "metrics.jsonl"  # older stores hold plain text
        if unlisted := {"run.json", records, "arrays.npz"} - sums.keys():
            raise ValueError(f"does not list {', '.join(sorted(unlisted))}")
    for name, expected in sums.items():
        with _reading(entry / name):
            if not (entry / name).is_file() or sha256(entry / name) != expected:
                raise ValueError("does not match its checksum")
    with _reading(entry / "run.json"):
        run = Run(**json.loads((entry / "run.json").read_text(encoding="utf-8")))
        if (run.experiment, run.key) != (entry.parent.name, entry.name):
            raise ValueError(f"is of {run.experiment} {run.key}")
        run.config = without_retired(run.config)
    with _reading(entry / records):
        content = (entry / records).read_bytes()
        lines = gzip.decompress(content) if records == METRICS else content
        run.metrics = json.loads(b"[" + b",".join(lines.splitlines()) + b"]")  # faster than a line at a time
    with (
        _reading(entry / "arrays.npz"),
        (entry / "arrays.npz").open("rb") as opened,  # numpy leaves open what it cannot read
        np.load(opened, allow_pickle=False) as arrays,
    ):
        run.arrays = dict(arrays)
    if weights and "weights.safetensors" in sums:
        from safetensors.torch import load_file

        with _reading(entry / "weights.safetensors"):
            run.weights = load_file(entry / "weights.safetensors")
    return run


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Name the file in whatever error reading it gives; formats have errors of their own, and not all are documented."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(f"{file.name}: {error}") from error


def describe_config(config: Any) -> dict[str, Any]:
    """Return every field of a config as plain JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config)))
