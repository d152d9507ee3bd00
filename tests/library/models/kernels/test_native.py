"""Where kernels cannot be built or loaded, that is said once and nothing else changes."""

import hashlib
import os
import shutil
import subprocess
import sys

import pytest
import torch

from mfrlib.config import ConfigError
from mfrlib.models.kernels import compiled, native

PROGRAM = """
import warnings, torch
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    from mfrlib import TopKSAE
    sae = TopKSAE(1, 6, 12, 3, generator=torch.Generator().manual_seed(0))
    x = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))
    for _ in range(3):
        total = sae(x).reconstruction.square().sum()
    total.backward()
print(len(said), "|", *(str(one.message) for one in said), "|", float(total), float(sae.weight.grad.square().sum()))
"""


def outcome(tmp_path, **environment):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), **environment}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, check=True, timeout=120
    )
    number, words, results = done.stdout.split("|")
    return int(number), words, [float(one) for one in results.split()]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return a cache that the kernels were built into, and what came out."""
    if not compiled.available():
        pytest.skip("no C compiler here: the plain form serves")
    cache = tmp_path_factory.mktemp("cache")
    return cache, outcome(cache)


@pytest.mark.slow
def test_built_once_into_the_cache_and_found_there(built):
    cache, first = built
    (library,) = cache.glob("mfrlib/native-*.so")
    written = library.stat().st_mtime_ns
    assert outcome(cache) == first
    assert first[0] == 0
    assert library.stat().st_mtime_ns == written


@pytest.mark.slow
def test_a_relative_cache_is_void_and_nothing_is_written_where_one_happens_to_be(tmp_path, monkeypatch, built):
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.chdir(tmp_path / "here")
    outcome(tmp_path, XDG_CACHE_HOME="cache", HOME=str(tmp_path))
    assert not list((tmp_path / "here").iterdir())
    assert len(list(tmp_path.glob(".cache/mfrlib/native-*.so"))) == 1


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"PATH": "", "CC": "none"}, "no C compiler"),
        pytest.param({"CC": "false"}, "could not build", marks=pytest.mark.slow),
        ({"MFR_NATIVE": "0"}, None),
    ],
)
def test_without_a_compiler_it_is_said_once_and_results_are_the_same(tmp_path, built, environment, words):
    number, said, results = outcome(tmp_path, **environment)
    assert number == (words is not None)
    assert words is None or (words in said and "plain PyTorch" in said)
    assert results == pytest.approx(built[1][2], rel=1e-5)


@pytest.mark.slow
def test_a_cache_that_cannot_be_written(tmp_path, built):
    file = tmp_path / "file"
    file.write_text("")
    said = outcome(file)[1]
    assert "building the kernels" in said
    assert str(file) in said
    assert "XDG_CACHE_HOME names another place" in said


@pytest.mark.slow
@pytest.mark.parametrize("damaged", [lambda whole: b"rubbish", lambda whole: whole[: len(whole) // 2]])
def test_a_damaged_library_in_the_cache_is_built_again(tmp_path, built, damaged):
    """A truncated one once ended every process that loaded it."""
    shutil.copytree(built[0], tmp_path / "cache")
    (library,) = (tmp_path / "cache").glob("mfrlib/native-*.so")
    library.write_bytes(damaged(library.read_bytes()))
    assert outcome(tmp_path / "cache") == built[1]
    libraries = list((tmp_path / "cache").glob("mfrlib/native-*.so"))
    assert any(hashlib.sha256(one.read_bytes()).hexdigest()[:16] in one.name for one in libraries)


@pytest.mark.parametrize("value", ["off", "false", "no", "1", "FP32"])
def test_an_unknown_switch_is_refused(value, monkeypatch):
    monkeypatch.setenv("MFR_NATIVE", value)
    with pytest.raises(ConfigError, match=f"MFR_NATIVE: must be 0, fp32, or not set, given '{value}'"):
        compiled.available.__wrapped__()


@pytest.mark.skipif(not compiled.available(), reason="no C compiler here")
def test_a_tensor_that_is_not_contiguous_is_refused():
    with pytest.raises(ValueError, match="contiguous"):
        native.select(torch.zeros(4, 6).T, 1, torch.zeros(6, 1), torch.zeros(6, 1, dtype=torch.int64))
