"""Settings as a search over parameters gives them: an integer is an integer, and a truth value is none."""

import json

import numpy as np
import pytest
import torch

from mfrbook.chapters.synthetic import runs as synthetic
from mfrbook.chapters.tiny_lm.runs import TinyLMConfig
from mfrbook.experiments.planned import seeds
from mfrbook.store.runs import describe_config, run_key
from mfrlib.config import ConfigError, plain
from mfrlib.data.eeg.preprocessing import Preprocessing
from mfrlib.data.synthetic import SyntheticSpec
from mfrlib.models.sae import TopKSAE
from mfrlib.training.config import TrainingConfig
from mfrlib.training.parallel import device_of


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.int64])
def test_an_integer_is_an_integer(dtype):
    config = TrainingConfig(steps=dtype(3), k=dtype(4), n_features=dtype(64), device="cpu")
    assert config == TrainingConfig(steps=3, k=4, n_features=64, device="cpu")
    assert type(config.steps) is int
    json.dumps(describe_config(config))
    assert run_key("x", config, "d") == run_key("x", TrainingConfig(steps=3, k=4, n_features=64, device="cpu"), "d")
    assert TopKSAE(1, 8, 16, dtype(4)).k == (4,)


@pytest.mark.parametrize(
    "ks", [np.array([4, 8]), [np.int64(4), 8], (np.int64(4), np.int32(8)), torch.tensor([4, 8]), range(4, 9, 4)]
)
def test_several_are_a_tuple(ks):
    config = TrainingConfig(k=ks, n_saes=2, device="cpu")
    assert config.k == (4, 8)
    assert hash(config)
    assert all(type(one) is int for one in config.k)
    assert TopKSAE(2, 8, 16, ks).k == (4, 8)


def test_numbers_truth_values_and_words():
    config = TrainingConfig(
        learning_rate=np.float32(0.25), alpha=np.float64(0.5), decoder_bias=np.True_, optimizer=np.str_("adam"),
        steps=torch.tensor(3), inactivity_power=np.int64(3), device="cpu",
    )  # fmt: skip
    found = config.learning_rate, config.alpha, config.decoder_bias, config.optimizer, config.steps
    assert found == (0.25, 0.5, True, "adam", 3)
    assert [type(one) for one in found[:3]] == [float, float, bool]


@pytest.mark.parametrize(
    "values",
    [{"steps": np.True_}, {"steps": np.float64(3)}, {"steps": True}, {"steps": torch.tensor(True)}, {"k": np.array([1.5])},
     {"decoder_bias": np.int64(1)}, {"learning_rate": np.True_}, {"steps": np.array([3, 4])}, {"inactivity_power": np.int64(2)}],
)  # fmt: skip
def test_what_is_none_is_refused(values):
    with pytest.raises(ConfigError, match=f"{next(iter(values))}: must be "):
        TrainingConfig(**values, device="cpu")


def test_every_config_takes_them():
    assert type(SyntheticSpec(n_groups=np.int64(12)).n_groups) is int
    assert type(TinyLMConfig(steps=np.int64(3)).steps) is int
    assert Preprocessing(seconds=np.float64(2), electrodes=np.array(["Fp1", "C3"])).electrodes == ("Fp1", "C3")
    assert type(synthetic.configure({"steps": np.int64(3)}, "smoke").steps) is int
    assert list(seeds(np.int64(2), synthetic.PROFILES["smoke"])) == [0, 1]
    with pytest.raises(ConfigError, match="n_seeds"):
        seeds(np.True_, synthetic.PROFILES["smoke"])


def test_what_is_python_s_own_stays_the_same_object():
    for value in ("words", 3, 2.5, None, True, {"a": 1}):
        assert plain(value) is value


def test_a_gpu_of_apple_is_a_device_where_there_is_one(monkeypatch):
    assert device_of("mps") == torch.device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert TrainingConfig(device="mps").device == "mps"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="device: must be auto, cpu, or cuda or mps where there is such a GPU"):
        TrainingConfig(device="mps")
