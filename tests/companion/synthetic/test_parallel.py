"""One, two or four real processes: the same losses, resuming with another number, and a rank that dies."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch

from mfrbook.command import cli
from mfrbook.store.provenance import PROJECT
from mfrbook.store.runs import read
from mfrlib.config import ConfigError
from mfrlib.data.batches import SHARDS, rows
from mfrlib.data.synthetic import SyntheticData, SyntheticSpec
from mfrlib.method.penalty import mutual_feature_penalty
from mfrlib.training.parallel import Team, team

SMALL = {
    "steps": 60, "batch_size": 64, "n_saes": 3, "n_features": 24, "k": [2, 3, 4], "alpha": 1, "n_input_features": 20,
    "d_in": 8, "n_groups": 4, "n_active": 3, "log_every": 1, "checkpoint_every": 5, "reinit": "always",
    "reinit_threshold": 1.3, "reinit_limit": 1000,
}  # fmt: skip


def command():
    pairs = [part for name, value in SMALL.items() for part in ("-p", f"{name}={json.dumps(value)}")]
    return ["-m", "mfrbook", "train", "synthetic", "--profile", "smoke", *pairs]


def environment(store):
    return {**os.environ, "MFR_CACHE": str(store), "PYTHONPATH": os.pathsep.join([str(PROJECT), str(PROJECT / "book")])}


def torchrun(n, store):
    start = ["-m", "torch.distributed.run", f"--nproc-per-node={n}", "--standalone", "--local-addr=127.0.0.1"]
    arguments = [sys.executable, *start, *command()]
    return subprocess.run(arguments, capture_output=True, text=True, env=environment(store), timeout=240, cwd=PROJECT)


def losses(store):
    (entry,) = (store / "synthetic").iterdir()
    records = read(entry, weights=False).metrics
    return torch.tensor([record["loss"] + [record["penalty"]] + record["inactivity"] for record in records])


def test_shards_are_all_of_a_batch_and_each_belongs_to_itself():
    data = SyntheticData(SyntheticSpec(), 3, 101, 1000)
    assert [row for shard in range(SHARDS) for row in rows(101, shard)] == list(range(101))
    whole = data.batch(5)
    pairs = torch.cat([data.batch(5, [shard, shard + 1]) for shard in range(0, SHARDS, 2)])
    order = [torch.tensor(sorted(map(tuple, one.tolist()))) for one in (whole, pairs)]
    assert len(whole) == 101
    torch.testing.assert_close(*order, rtol=1e-5, atol=1e-5)


def test_the_penalty_s_parts_add_up_to_it():
    weight = torch.randn(4, 9, 5, dtype=torch.float64).requires_grad_()
    parts = [mutual_feature_penalty(weight, "max", "symmetric", (rank, 8)) for rank in range(8)]
    torch.testing.assert_close(sum(parts), mutual_feature_penalty(weight, "max", "symmetric"))


def test_a_team_of_three_is_refused():
    with pytest.raises(ConfigError, match=r"processes: one of \[1, 2, 4, 8\].*given 3"):
        Team(0, 3)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"WORLD_SIZE": "x"}, "WORLD_SIZE: must be a number of processes, as torchrun sets it, given 'x'"),
        ({"WORLD_SIZE": "-2"}, "WORLD_SIZE: must be a number of processes"),
        ({"WORLD_SIZE": "0"}, r"processes: one of \[1, 2, 4, 8\].*given 0"),
        ({"WORLD_SIZE": "2"}, "start with torchrun, or unset WORLD_SIZE"),  # as some schedulers leave it
    ],
)
def test_what_a_scheduler_left_in_the_environment_is_refused_in_a_sentence(variables, words, monkeypatch):
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=words):
        team.__wrapped__()


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "")
    assert team.__wrapped__() == Team()


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The losses of one process, this one."""
    store = tmp_path_factory.mktemp("one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MFR_CACHE", str(store))
        assert cli.main(command()[2:]) == 0
    found = losses(store)
    assert len(found) == 60
    return found


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(tmp_path, one):
    done = torchrun(2, tmp_path)
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(losses(tmp_path), one, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_process_group_that_is_there_is_used(tmp_path):
    program = """
import sys, torch, torch.distributed as dist
from mfrlib import TrainingConfig, train
if sys.argv[1:]:
    dist.init_process_group("gloo")
config = TrainingConfig(steps=5, batch_size=24, n_features=16, k=4, alpha=1, device="cpu")
done = train(config, torch.randn(200, 8, generator=torch.Generator().manual_seed(0)), progress=False)
if not sys.argv[1:] or dist.get_rank() == 0:
    print(done.metrics[-1]["loss"])
if sys.argv[1:]:
    dist.destroy_process_group()
"""
    (tmp_path / "program.py").write_text(program)
    start = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--standalone",
        "--local-addr=127.0.0.1",
    ]
    found = []
    for command in ([sys.executable, "program.py"], [*start, "program.py", "group"]):
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment(tmp_path), timeout=120, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    assert found[1] == pytest.approx(found[0], rel=1e-5)


@pytest.mark.slow
def test_a_rank_that_dies_stops_the_others_by_name_and_the_run_resumes_with_one(tmp_path, one, monkeypatch):
    broken = tmp_path / "broken"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, *command()],
            env={**environment(broken), "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank),
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=PROJECT,
        )
        for rank in range(2)
    ]  # fmt: skip
    until = time.monotonic() + 120
    while not list(broken.glob("unfinished/*/checkpoint.safetensors")):
        assert time.monotonic() < until, processes[0].communicate(timeout=5)
        time.sleep(0.005)
    processes[1].send_signal(signal.SIGKILL)
    _, errors = processes[0].communicate(timeout=60)
    processes[1].communicate(timeout=60)
    if processes[0].returncode == 0:
        pytest.fail("the run was over before its second process was killed")
    assert re.search(r"rank 0 of 2 stops.*[Rr]anks? 1", errors), errors
    monkeypatch.setenv("MFR_CACHE", str(broken))
    assert cli.main(command()[2:]) == 0
    torch.testing.assert_close(losses(broken), one, rtol=1e-5, atol=1e-6)
