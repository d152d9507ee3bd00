import os
from pathlib import Path

import pytest
import torch

from mfrlib import environment
from mfrlib.config import ConfigError


def test_the_cache_of_a_checkout_lies_in_it_and_that_of_an_installed_package_does_not(monkeypatch, tmp_path):
    monkeypatch.delenv("MFR_CACHE")
    assert environment.cache_folder() == Path(environment.__file__).parents[1] / ".runs"
    monkeypatch.setattr(environment, "CHECKOUT", tmp_path / "site-packages")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert environment.cache_folder() == tmp_path / "cache" / "mfrlib"
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")  # a relative one is void
    monkeypatch.setenv("HOME", str(tmp_path))
    assert environment.cache_folder() == tmp_path / ".cache" / "mfrlib"


def test_a_relative_cache_stays_where_it_was_when_the_folder_changes(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MFR_CACHE", "runs")
    assert environment.cache_folder() == tmp_path / "runs"
    assert os.environ["MFR_CACHE"] == str(tmp_path / "runs")  # which children inherit
    monkeypatch.chdir("/")
    assert environment.cache_folder() == tmp_path / "runs"


@pytest.mark.parametrize("device", ["cpu", "cpu:0", torch.device("cpu")])
def test_a_processor_is_there(device):
    environment.require_device(device)


@pytest.mark.parametrize("device", ["cuda:99", "cuda:a", "cpu:1", "cpu:", "gpu", "meta", "", None, 0])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(ConfigError, match=f"device: must be cpu, or cuda .*given '{device}'"):
        environment.require_device(device)


def test_a_folder_of_data_that_is_not_there_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("MFR_DATA", str(tmp_path))
    assert environment.data_folder() == tmp_path
    monkeypatch.setenv("MFR_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="MFR_DATA: must be a folder"):
        environment.data_folder()
    monkeypatch.setenv("MFR_DATA", "")
    assert environment.data_folder() is None


@pytest.mark.parametrize("path", ["", None, b"sae", 3, "a\0b"])
def test_what_names_nothing_is_not_the_current_folder(path):
    """As of a variable that is not set."""
    with pytest.raises(ConfigError, match="path: must name a folder or file, given"):
        environment.absolute(path)
