"""The benchmark's machinery at a tiny size: turns, gaps, the table, the page made from it. No test times anything."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from mfrbook.performance import page as performance
from mfrbook.performance.timings import Timings
from mfrlib.data.synthetic import SyntheticData, SyntheticSpec
from mfrlib.models.kernels import compiled
from mfrlib.training.loop import train
from tests.benchmarks import __main__ as command
from tests.benchmarks import course, environments, language_models, measure, memory, referee, worker
from tests.benchmarks.cases import FULL, TINY, Case
from tests.benchmarks.contestants import CONTESTANTS, OURS, REFERENCE

LINUX = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
BESIDE = {
    "model": "tiny-lm", "sequences": 8, "length": 128, "threads": 1, "rounds": 2,
    "seconds": {"forward": 0.1, "activations": 0.11, "forward + backward": 0.3, "e2e step": 0.36},
    "ratios": {"activations": 1.1, "e2e step": 1.2}, "limits": language_models.LIMITS,
}  # fmt: skip
MEMORY = [{"steps": n, "bytes": size, "weights_bytes": 0} for n, size in ((0, 2**28), (2, 2**29), (4, 2**29))]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A tiny benchmark of ours beside one library that cannot be installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environments, "FOLDER", tmp_path_factory.mktemp("environments"))
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(environments.FOLDER))
        chosen = {name: CONTESTANTS[name] for name in (OURS, REFERENCE, "overcomplete")}
        patch.setattr(measure, "CONTESTANTS", chosen)
        options = {"peers": True, "rounds": 2, "turn": 0.001, "threads": 1, "device": "cpu"}
        with measure.Benchmark(TINY, logs=tmp_path_factory.mktemp("logs"), **options) as benchmark:
            measured = benchmark.run()
    made = command.made(benchmark, 2, {"commit": None, "dirty": None})
    return measured | {"memory": MEMORY, "made": made}


@pytest.mark.slow
def test_a_library_that_cannot_be_installed_is_told_and_not_fatal(found):
    ours, reference, peer = found["contestants"]
    assert "absent" not in ours | reference
    assert "overcomplete==0.3.0 cannot be installed" in peer["absent"]
    assert {row["contestant"] for row in found["rows"]} == {OURS, REFERENCE}


@pytest.mark.slow
def test_everything_planned_is_in_the_table(found):
    tables = Counter(row["table"] for row in found["rows"])
    steps = len(TINY.steps(TINY.sizes[0]))
    axes = {axis: 2 * len(values) for axis, values in TINY.axes.items()}
    assert tables == {"peak": 4, "steps": 2 * steps, "penalty": 5, "limits": 4, "loop": 4} | axes
    for row in found["rows"]:
        assert 0 < row["seconds"]["q1"] <= row["seconds"]["median"] <= row["seconds"]["q3"]
    names = Counter(one["what"] for one in found["ratios"])
    assert names == {"step": steps, "penalty": 1, "stack to as many single steps": 1} | dict.fromkeys(
        ("penalty to ten products", "penalty to step", "step with penalty", "data to step"), 1
    )


@pytest.mark.slow
def test_the_reference_runs_without_the_kernels(found):
    _, reference, _ = found["contestants"]
    assert reference["engine"] == "PyTorch"


@pytest.mark.slow
def test_the_file_has_a_line_a_row_and_is_json(found):
    text = command.text({"cpu": found})
    assert json.loads(text) == json.loads(json.dumps({"cpu": found}))
    assert text.count("\n") < 30 + sum(len(found[name]) for name in ("contestants", "rows", "ratios", "memory"))


def written(folder: Path, document: dict) -> tuple[str, dict]:
    (folder / "book" / "results").mkdir(parents=True)
    (folder / "book" / "executed").mkdir()
    if document:
        (folder / "book" / "results" / "performance.json").write_text(command.text(document))
    values = performance.write(folder, folder / "book" / "executed")
    return (folder / "book" / "executed" / "performance.md").read_text(), values


@pytest.mark.slow
def test_the_page_names_only_numbers_there_are(found, tmp_path):
    page, values = written(tmp_path, {"cpu": found})
    named = re.findall(r"\{val\}`performance\.([^:`]+)(?::([^`]+))?`", page)
    assert {name for name, _ in named} <= set(values["performance"])
    for name, form in named:
        format(values["performance"][name], form)
    assert page.count("<figure") == 11
    assert "overcomplete==0.3.0 cannot be installed" in page
    assert "no GPU was at hand" in page


@pytest.mark.slow
def test_a_language_model_has_its_part_once_it_is_measured(found, tmp_path):
    without, _ = written(tmp_path / "without", {"cpu": found})
    assert "Not measured: `make bench` has not been run with the extra `lm`" in without
    page, values = written(tmp_path / "with", {"cpu": found | {"language_model": BESIDE}})
    named = re.findall(r"\{val\}`performance\.([^:`]+)(?::([^`]+))?`", page)
    assert {"cpu_lm_activations", "cpu_lm_e2e"} <= {name for name, _ in named} <= set(values["performance"])
    assert page.count("<figure") == without.count("<figure") + 1
    assert "are kept" in page
    slow = BESIDE | {"ratios": {"activations": 1.3, "e2e step": 1.2}}
    assert "are not kept" in written(tmp_path / "slow", {"cpu": found | {"language_model": slow}})[0]


@pytest.mark.slow
def test_a_language_model_is_timed_in_a_process_of_its_own():
    pytest.importorskip("transformer_lens")
    timed = command.beside_language_model(threads=1, rounds=1, sequences=1)
    assert timed["ratios"].keys() == timed["limits"].keys()
    assert all(one > 0 for one in timed["seconds"].values())


@pytest.mark.slow
def test_a_measured_gpu_fills_its_part(found, tmp_path):
    page, values = written(tmp_path, {"cpu": found, "cuda": found})
    assert "no GPU was at hand" not in page
    assert page.count('id="cuda-') == 11
    assert values["performance"]["cuda_T_ms"] == values["performance"]["cpu_T_ms"]


def test_the_page_without_a_measurement_says_so(tmp_path):
    page, values = written(tmp_path, {})
    assert values == {}
    assert page.count("Not measured") == 2
    assert "{val}" not in page


def test_the_archived_measurement_makes_a_page(tmp_path):
    if not command.RESULT.exists():
        pytest.skip("no measurement is archived")
    document = json.loads(command.RESULT.read_text())
    page, values = written(tmp_path, document)
    assert page.count("<figure") >= 10
    for name, run in document["cpu"]["course"].items():
        assert 0 < values["performance"][f"cpu_{name}_searched"] < max(one["searched"] for one in run["blocks"])
        assert f"performance.cpu_{name}_of_fp32" in page


@pytest.mark.slow
def test_the_figures_draw_every_row(found):
    from mfrbook.performance import figures

    measured = Timings(**found)
    assert len(figures.step_figure(measured).data) == 2
    assert len(figures.scaling_figure(measured).data) == sum(2 * len(values) for values in TINY.axes.values())


@pytest.mark.parametrize("options", [[], ["--device", "cuda"]])
def test_a_check_of_the_machinery_never_writes_the_published_measurement(options, monkeypatch, capsys):
    monkeypatch.setattr(command, "Benchmark", lambda *_, **__: pytest.fail("measured"))
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--plan", "tiny", *options])
    with pytest.raises(SystemExit) as raised:
        command.main()
    assert raised.value.code == 2
    assert "--output: must be given unless the plan is full" in capsys.readouterr().err


class Player:
    """Stands at a worker's place and remembers who was asked what."""

    def __init__(self, seconds, told, fails=False):
        self.seconds, self.told, self.fails = seconds, told, fails

    def ask(self, **request):
        if "times" in request:
            self.told.append((request["job"], request["times"]))
            return {"error": "no"} if self.fails else {"seconds": self.seconds}
        return {}


def test_turns_go_round_in_an_order_that_moves_on():
    told = []
    entries = [referee.Entry(Player(0.01, told), "step", TINY.base) for _ in range(3)]
    timings = referee.take_turns(entries, rounds=3, turn=0.05)
    assert [len(one.seconds) for one in timings] == [3, 3, 3]
    rounds = [[job for job, _ in told[start : start + 3]] for start in range(0, 12, 3)]
    assert all(sorted(order) == ["0", "1", "2"] for order in rounds)
    assert rounds[1] != rounds[2] != rounds[3]
    assert [times for _, times in told[:3]] == [1, 1, 1]
    assert {times for _, times in told[3:]} == {5}


def test_one_that_fails_leaves_a_gap_and_the_others_go_on():
    told = []
    entries = [referee.Entry(Player(0.01, told, fails), "step", TINY.base) for fails in (False, True)]
    fine, failed = referee.take_turns(entries, rounds=4, turn=0.01)
    assert (len(fine.seconds), failed.seconds, failed.error) == (4, [], "no")


@pytest.mark.slow
@LINUX
def test_a_worker_is_stopped_between_its_turns(tmp_path):
    with referee.Worker(REFERENCE, 1, "cpu", tmp_path / "log") as one:
        assert one.ask(make="step", job="0", case=TINY.base.as_dict(), options={}) == {}
        assert one.ask(times=1, job="0")["seconds"] > 0
        status = Path(f"/proc/{one.process.pid}/status")
        assert re.search(r"State:\s+T", status.read_text())
        assert "KeyError" in one.ask(times=1, job="1")["error"]
    assert not status.exists()


def test_a_loss_that_is_not_finite_is_no_time():
    with pytest.raises(ArithmeticError, match="nan"):
        worker.timed(lambda: float("nan"), 1, "cpu")


def test_a_case_survives_json():
    assert Case.from_dict(json.loads(json.dumps(FULL.five.as_dict()))) == FULL.five


def test_products_count_the_encoder_once_for_each_sae():
    assert FULL.five.products == 5 * 2 * 500 * 768 * 3072


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CONTESTANTS if CONTESTANTS[name].package])
def test_a_peer_that_is_installed_takes_steps_and_learns(name, tmp_path):
    package = CONTESTANTS[name].package
    if not (environments.FOLDER / package / "installed.json").exists():
        pytest.skip(f"{package} is not installed: make bench does it")
    with referee.Worker(name, 1, "cpu", tmp_path / "log") as one:
        assert one.versions["version"] == environments.peers()[package]["version"]
        assert one.ask(make="step", job="0", case=TINY.sizes[0].as_dict(), options={}) == {}
        assert one.ask(times=3, job="0").get("seconds"), (tmp_path / "log").read_text()[-2000:]


@pytest.mark.slow
@LINUX
def test_memory_is_that_of_the_child(tmp_path):
    rows = memory.measure(TINY.sizes[0], TINY.memory, threads=1)
    assert [row["steps"] for row in rows] == [0, *TINY.memory]
    assert all(2**26 < row["bytes"] < 2**31 for row in rows)
    assert rows[1]["weights_bytes"] == 16 * 2 * 48 * 17


@pytest.mark.slow
def test_the_command_writes_its_device_only(found, tmp_path, monkeypatch):
    """What it measures by, each is tested above."""
    output = tmp_path / "performance.json"
    output.write_text('{"cuda": {"rows": []}, "cpu": {"course": {"kept": 1}}}')

    class Benchmark:
        rounds, threads, flops, bandwidth = 1, 1, {"float32": 1.0, "bfloat16": 2.0, "int8": 4.0}, 1.0

        def __init__(self, plan, **options):
            assert (plan, options["peers"], options["device"]) == (TINY, False, "cpu")

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def run(self):
            return {name: found[name] for name in ("contestants", "rows", "ratios")}

    monkeypatch.setattr(command, "Benchmark", Benchmark)
    monkeypatch.setattr(command, "memory_rows", lambda *_: MEMORY)
    monkeypatch.setattr(command, "beside_language_model", lambda *_: BESIDE)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    line = ["--plan", "tiny", "--peers", "0", "--rounds", "1", "--threads", "1", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *line])
    command.main()
    document = json.loads(output.read_text())
    assert document["cuda"] == {"rows": []}
    assert document["cpu"]["rows"] == json.loads(json.dumps(found["rows"]))
    assert document["cpu"]["memory"] == MEMORY
    assert document["cpu"]["course"] == {"kept": 1}
    assert {"made", "language_model"} < document["cpu"].keys() == found.keys() | {"language_model", "course"}


@pytest.mark.slow
def test_the_command_for_a_gpu_needs_the_repository_and_pytorch_alone(tmp_path):
    """On a machine without the library's other needs, at toy size, on a processor."""
    program = """
import runpy, sys
sys.modules.update(dict.fromkeys(("tqdm", "scipy", "safetensors", "filelock", "pandas", "papermill")))
sys.argv = ["gpu", "--toy"]
runpy.run_module("tests.benchmarks.gpu", run_name="__main__")
"""
    subprocess.run(
        [sys.executable, "-c", program], cwd=environments.PROJECT, env={**os.environ, "OUT": str(tmp_path / "new")},
        check=True, timeout=300,
    )  # fmt: skip
    found = json.loads((tmp_path / "new" / "gpu.json").read_text())
    assert all(one[what] < 1e-5 for one in found["agreement"] for what in ("loss", "penalty", "gradient"))
    for name, row in found.items():
        if name.startswith(("S,", "G,")):
            assert row["steps_taken"] == row["steps"]
            assert 0 < row["share_of_peak"] < 1
            assert "error" not in row


@pytest.mark.slow
@LINUX
def test_a_course_times_every_block_and_counts_the_rows_searched(tmp_path):
    config = course.TrainingConfig(steps=6, batch_size=32, n_saes=2, n_features=48, k=4, alpha=1.0, device="cpu")
    data = SyntheticData(SyntheticSpec(d_in=16, n_input_features=48, n_active=4), seed=0, batch_size=32, n_samples=192)
    with referee.Worker(OURS, 1, "cpu", tmp_path / "log", {"MFR_NATIVE": "fp32"}) as worker:
        found = course.measure("tiny", config, data, worker, steps=6, block=4)
    assert [one["step"] for one in found["blocks"]] == [4, 6]
    assert all(one[name] > 0 for one in found["blocks"] for name in ("with", "without", "fp32"))
    shares = [one["searched"] for one in found["blocks"]]
    if compiled.certifies():
        assert shares[0] > 0
        assert found["searched"] == pytest.approx((4 * shares[0] + 2 * shares[1]) / 6)
    trained = train(config, data, progress=False)
    assert found["alpha"] == trained.alpha
