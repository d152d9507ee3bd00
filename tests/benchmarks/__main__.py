"""Run the benchmark and write its table.

A GPU's numbers (`--device cuda`) and the processor's stand in one file side by side: a run replaces those of its device.
"""

import argparse
import datetime
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mfrbook.command.numbers import positive_integer
from mfrbook.store import provenance

from .cases import PLANS
from .cores import round_trip
from .environments import PROJECT
from .measure import Benchmark, memory_rows

RESULT = PROJECT / "book" / "results" / "performance.json"


def main() -> None:
    """Read the command line, measure, write."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--peers", type=int, choices=(0, 1), default=1, help="0: ours only")
    parser.add_argument(
        "--threads", type=positive_integer, default=os.cpu_count() or 1, help="of everybody (default: all cores)"
    )
    parser.add_argument(
        "--rounds", type=positive_integer, default=15, help="counted rounds of each table; a third for curves"
    )
    parser.add_argument("--turn", type=float, default=0.15, help="seconds of a contestant's turn, at least one step")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--plan", choices=PLANS, default="full", help="tiny: a check of the machinery")
    parser.add_argument("--output", type=Path, help="default, with the full plan: what the book shows")
    options = parser.parse_args()
    if options.plan != "full" and not options.output:
        parser.error("--output: must be given unless the plan is full")
    output = options.output or RESULT
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no stopped process stays behind

    started, plan = time.monotonic(), PLANS[options.plan]
    before = provenance.commit()  # as it was when the processes started
    trips = [round_trip()]
    with tempfile.TemporaryDirectory() as logs, Benchmark(
        plan, peers=bool(options.peers), rounds=options.rounds, turn=options.turn, threads=options.threads,
        device=options.device, logs=Path(logs),
    ) as benchmark:  # fmt: skip
        found = benchmark.run()
    found["memory"] = memory_rows(plan, options.threads) if options.device == "cpu" else []
    if options.device == "cpu" and importlib.util.find_spec("transformer_lens"):
        found["language_model"] = beside_language_model(options.threads, options.rounds)
    found["made"] = made(benchmark, time.monotonic() - started, before) | {"round_trip_ns": [*trips, round_trip()]}
    document = json.loads(output.read_text()) if output.exists() else {}
    if course := document.get(options.device, {}).get("course"):  # tests.benchmarks.course has measured it
        found["course"] = course
    document[options.device] = found
    output.write_text(text(document))
    print(f"{output}, after {found['made']['wall_seconds']} s")


def beside_language_model(threads: int, rounds: int, sequences: int = 8) -> dict[str, Any]:
    """Return what `language_models` measures, in a process of its own: importing a language model takes memory."""
    values = {"--threads": threads, "--rounds": rounds, "--sequences": sequences}
    line = [sys.executable, "-m", "tests.benchmarks.language_models"]
    line += [part for name, value in values.items() for part in (name, str(value))]
    done = subprocess.run(line, cwd=PROJECT, capture_output=True, text=True, timeout=1800, check=False)
    if done.returncode:
        raise RuntimeError(f"the language model could not be timed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return found


def made(benchmark: Benchmark, seconds: float, commit: dict[str, Any]) -> dict[str, Any]:
    """Return what a reader must know of the circumstances of a benchmark."""
    peaks = {"peak_flops": benchmark.flops["float32"], "bytes_per_second": benchmark.bandwidth}
    peaks |= {
        f"peak_flops_{short}": benchmark.flops[dtype] for short, dtype in (("bf16", "bfloat16"), ("int8", "int8"))
    }
    whole = {"rounds": benchmark.rounds, **peaks, "wall_seconds": round(seconds)}
    return circumstances("tests.benchmarks", benchmark.threads, commit) | whole


def circumstances(module: str, threads: int, commit: dict[str, Any]) -> dict[str, Any]:
    """Return command, date, versions and machine, beside the commit at the start."""
    return {
        **commit,
        "command": " ".join([f"python -m {module}", *sys.argv[1:]]),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": provenance.versions(),
        "machine": provenance.machine() | {"cores": os.cpu_count(), "threads": threads},
    }


def text(document: dict[str, dict[str, Any]]) -> str:
    """Write JSON with a line for each row, so that two versions can be compared by eye."""
    devices = []
    for device, parts in document.items():
        written = []
        for name, part in parts.items():
            if isinstance(part, list):
                rows = ",\n".join(f"   {json.dumps(row, ensure_ascii=False)}" for row in part)
                written.append(f"  {json.dumps(name)}: [\n{rows}\n  ]")
            else:
                written.append(f"  {json.dumps(name)}: {json.dumps(part, ensure_ascii=False)}")
        devices.append(f" {json.dumps(device)}: {{\n" + ",\n".join(written) + "\n }")
    return "{\n" + ",\n".join(devices) + "\n}\n"


if __name__ == "__main__":
    main()
