"""Recompute all probes on two processes, compare them with the committed records, or record them anew with a reason."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mfrbook.probes.cases import CASES
from mfrbook.probes.compare import Judged, Record, deviation, differing, judge
from mfrbook.probes.record import from_json, to_json
from mfrbook.store.behaviour import BEHAVIOUR
from mfrbook.store.provenance import PROJECT, commit, machine, versions
from mfrbook.store.store import temporary_cache
from mfrlib.config import require, unknown_name

RECORDS = PROJECT / "book" / "results" / "probes"
SHARES = (
    ("synthetic", "coverage", "groups", "starts", "gpt2", "gpt2-features", "tiny-lm"),
    ("end-to-end", "end-to-end-likeness", "eeg", "eeg-transforms", "denoising"),
)
"""The experiments that each of the two processes computes, about half of the work each."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
ELSEWHERE: Mapping[str, Mapping[str, str]] = {
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "plain PyTorch": {"MFR_NATIVE": "0"},
    "plain PyTorch, AVX2": {"MFR_NATIVE": "0", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "two threads": dict.fromkeys(THREADS, "2"),
    "OpenBLAS of another processor": {"OPENBLAS_CORETYPE": "Haswell"},
}
"""Where rounding differs, by the environment variables that make it so on one machine."""
Outcome = dict[str, Any]


def probes(names: Sequence[str] = (), *, behind: bool = False) -> list[Judged]:
    """Recompute the probes of some experiments, or of all, and compare each with its record; `behind` gives way to other processes."""
    found, judged = compute(names, behind=behind), []
    for experiment, outcomes in found["probes"].items():
        file = RECORDS / f"{experiment}.json"
        require(file.is_file(), "probes", str(file), "has no record of this experiment: make it with --record REASON")
        stored = json.loads(file.read_text(encoding="utf-8"))
        others = differing(stored["machine"], found["machine"])
        for name, outcome in outcomes.items():
            if name not in stored["probes"]:
                judged.append(Judged(experiment, name, "changed", "it has no record", outcome["seconds"], others))
                continue
            record = _record(stored["probes"][name])
            verdict, reason = judge(record, from_json(outcome["numbers"]), outcome["texts"], others)
            judged.append(Judged(experiment, name, verdict, reason, outcome["seconds"], others))
    return judged


def _record(stored: Mapping[str, Any]) -> Record:
    return Record(from_json(stored["numbers"]), stored["texts"], stored["rounding"])


def compute(
    names: Sequence[str] = (), environment: Mapping[str, str] | None = None, *, behind: bool = False
) -> Outcome:
    """Compute probes in two processes of one thread each, in an environment of their own; `behind` others where the system can.

    Returns
    -------
    dict
        `machine`: instructions and versions; `probes`: by experiment and name, `numbers`, `texts` and `seconds`.
    """
    for name in names:
        if name not in CASES:
            raise unknown_name(name, CASES, "experiment")
    shares = [[name for name in share if not names or name in names] for share in SHARES]
    line = [sys.executable, "-m", __name__]
    clean = {name: value for name, value in os.environ.items() if name not in ("MFR_CACHE", "MFR_DATA")}
    clean |= dict.fromkeys(THREADS, "1")
    with tempfile.TemporaryFile("w+") as said:
        started = [
            subprocess.Popen([*line, *share], cwd=PROJECT, stdout=subprocess.PIPE, stderr=said,
                             env=clean | dict(environment or {}), text=True)
            for share in shares if share
        ]  # fmt: skip
        if behind and hasattr(os, "setpriority"):
            for one in started:
                os.setpriority(os.PRIO_PROCESS, one.pid, 10)
        written = [one.communicate()[0] for one in started]
        if any(one.returncode for one in started):
            said.seek(0)
            raise RuntimeError(f"a probe failed: {said.read().strip()[-3000:]}")
    parts = [json.loads(one) for one in written]
    return {
        "machine": parts[0]["machine"],
        "probes": {name: one for part in parts for name, one in part["probes"].items()},
    }


def here(experiments: Sequence[str]) -> Outcome:
    """Compute the probes of some experiments in this process."""
    found: dict[str, dict[str, Any]] = {}
    for experiment in experiments:
        for name in CASES[experiment]:
            found.setdefault(experiment, {})[name] = one(experiment, name)
    return {"machine": kind(), "probes": found}


def one(experiment: str, name: str) -> Outcome:
    """Compute one probe in this process."""
    from mfrbook.probes import cases, record

    start = time.perf_counter()
    with temporary_cache() as folder:
        run = cases.run(experiment, CASES[experiment][name], folder)
    numbers = json.loads(to_json(record.numbers(run)))
    return {"numbers": numbers, "texts": record.texts(run), "seconds": round(time.perf_counter() - start, 2)}


def kind() -> dict[str, Any]:
    """Return what decides rounding: vector instructions, bf16 products, BLAS, versions; not the processor's name, which hides them."""
    import torch
    from threadpoolctl import threadpool_info

    about = machine()
    bf16 = bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
    others = {name: version for name, version in versions().items() if name != "mfrlib"}
    blas = sorted({one["architecture"] for one in threadpool_info() if one.get("internal_api") == "openblas"})
    return {"instructions": about["instructions"], "bf16": bf16, "OpenBLAS": ", ".join(blas), **others}


def keep(reason: str, names: Sequence[str] = ()) -> list[str]:
    """Record the probes of some experiments, or of all, anew, with a sentence that says why; return what was recorded.

    Each is computed here, and again everywhere in `ELSEWHERE`, to see how far rounding reaches.
    """
    require(
        len(reason.split()) >= 4, "--record", reason, "must be a sentence that says why the numbers are recorded anew"
    )
    base = compute(names)
    elsewhere = [compute(names, variables) for variables in ELSEWHERE.values()]
    RECORDS.mkdir(parents=True, exist_ok=True)
    for experiment, outcomes in base["probes"].items():
        stored = {}
        for name, outcome in outcomes.items():
            others = [from_json(one["probes"][experiment][name]["numbers"]) for one in elsewhere]
            stored[name] = outcome | {"rounding": _rounding(from_json(outcome["numbers"]), others)}
            del stored[name]["seconds"]
        about = {
            "why": reason,
            "behaviour": BEHAVIOUR[experiment],
            "commit": commit()["commit"],
            "machine": base["machine"],
        }
        file = RECORDS / f"{experiment}.json"
        file.write_text(_text(about, stored), encoding="utf-8")
    return list(base["probes"])


def _rounding(numbers: Mapping[str, list[float]], others: Sequence[Mapping[str, list[float]]]) -> dict[str, float]:
    """Return for each number how far it was off at most elsewhere, two digits, where it was off at all."""
    found = {path: max(deviation(values, one[path]) for one in others) for path, values in numbers.items()}
    return {path: float(f"{off:.2g}") for path, off in found.items() if off}


def _text(about: Mapping[str, Any], stored: Mapping[str, Any]) -> str:
    """Return the record as JSON with a path a line, so that a change shows in a diff as what it is."""
    probes = []
    for name, one in stored.items():
        parts = [
            f'"{part}": {to_json(from_json(one[part]))}' if part == "numbers" else f'"{part}": {json.dumps(one[part])}'
            for part in one
        ]
        probes.append(f"{json.dumps(name)}: {{\n" + ",\n".join(parts) + "\n}")
    head = json.dumps(about, indent=1)[:-2]
    return head + ',\n "probes": {\n' + ",\n".join(probes) + "\n}\n}\n"


if __name__ == "__main__":
    print(json.dumps(here(sys.argv[1:])))
