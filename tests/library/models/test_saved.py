"""SAEs that are taken apart, described, saved and opened: the same outputs, and never another configuration."""

import copy
import io
import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.utils import prune

import mfrlib
from mfrlib.config import ConfigError
from mfrlib.models import sae_files
from mfrlib.models.relu_sae import ReLUSAE
from mfrlib.models.sae import TopKSAE
from mfrlib.models.sae_files import SAEFileError
from mfrlib.models.saved import load

TOPK = [
    {},
    {"k": (2, 5, 3)},
    {"decoder": "raw", "activation": "relu", "decoder_bias": True},
]


def topk(n_saes=3, seed=0, **options):
    draws = torch.Generator().manual_seed(seed)
    return shifted(TopKSAE(n_saes, 6, 11, **{"k": 3, **options}, generator=draws), draws)


def relu(n_saes=3, seed=0, **options):
    draws = torch.Generator().manual_seed(seed)
    return shifted(ReLUSAE(n_saes, 6, 11, generator=draws, **options), draws)


def shifted(sae, draws):
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=draws)
    return sae


ALL = [*(lambda o=o: topk(**o) for o in TOPK), relu, lambda: relu(init="independent")]


@pytest.fixture(params=ALL)
def sae(request):
    return request.param()


@pytest.fixture
def x(draws):
    return torch.randn(40, 6, generator=draws)


class TestRoundTrip:
    def test_a_stack_comes_back_with_the_same_outputs(self, sae, x, tmp_path):
        sae.save(tmp_path / "deep" / "my-sae")
        assert sorted(one.name for one in (tmp_path / "deep" / "my-sae").iterdir()) == [
            "config.json",
            "sae.safetensors",
        ]
        found = load(str(tmp_path / "deep" / "my-sae"))
        assert type(found) is type(sae)
        assert found.settings == sae.settings
        for mine, theirs in zip(sae(x), found(x), strict=True):
            assert torch.equal(mine, theirs)
        assert all(one.requires_grad for one in found.parameters())

    def test_home_is_home(self, sae, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        sae.save("~/my-sae")
        assert (tmp_path / "my-sae" / "config.json").is_file()
        assert load("~/my-sae").settings == sae.settings

    def test_every_sae_of_it_alone(self, sae, x, tmp_path):
        for number, one in enumerate(sae):
            one.save(tmp_path / str(number))
            found = load(tmp_path / str(number))
            assert len(found) == 1
            torch.testing.assert_close(found(x).reconstruction[0], sae(x).reconstruction[number])

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
    def test_the_type_of_the_weights_is_kept(self, sae, tmp_path, dtype):
        sae.to(dtype).save(tmp_path)
        found = load(tmp_path)
        assert found.weight.dtype == dtype
        assert torch.equal(found.weight, sae.weight)

    def test_opening_draws_nothing(self, sae, tmp_path):
        sae.save(tmp_path)
        state = torch.get_rng_state()
        load(tmp_path)
        assert torch.equal(torch.get_rng_state(), state)

    def test_a_loaded_stack_trains_on(self, sae, x, tmp_path):
        sae.save(tmp_path)
        found = load(tmp_path)
        optimizer = torch.optim.Adam(found.parameters(), lr=0.01)
        before = (found(x).reconstruction - x).square().mean().item()
        for _ in range(20):
            optimizer.zero_grad()
            (found(x).reconstruction - x).square().mean().backward()
            optimizer.step()
        assert (found(x).reconstruction - x).square().mean() < before
        assert torch.equal(load(tmp_path).weight, sae.weight)

    def test_the_published_names(self, x, tmp_path):
        config = mfrlib.TrainingConfig(steps=3, batch_size=20, n_features=12, k=3, device="cpu")
        trained = mfrlib.train(config, x, progress=False).sae
        trained.save(tmp_path)
        assert torch.equal(mfrlib.load(tmp_path)(x).reconstruction, trained(x).reconstruction)


def test_settings_given_in_numpy_s_integers_are_saved(tmp_path):
    TopKSAE(np.int64(2), np.int32(6), np.int64(11), np.int64(3)).save(tmp_path / "one")
    TopKSAE(2, 6, 11, np.array([3, 4])).save(tmp_path / "each")
    assert load(tmp_path / "one").k == (3, 3)
    assert load(tmp_path / "each").k == (3, 4)


class TestParts:
    def test_one_and_some_are_the_stack_s(self, sae, x):
        whole = sae(x).reconstruction
        for which in (slice(1, 3), slice(None, None, 2), slice(-1, None)):
            torch.testing.assert_close(sae[which](x).reconstruction, whole[which])
        torch.testing.assert_close(sae[-1](x).reconstruction, whole[2:])
        assert [len(one) for one in sae] == [1, 1, 1]
        if sae.k:
            assert sae[1:].k == sae.k[1:]

    def test_weights_are_shared_and_gradients_are_not(self, sae, x):
        one = sae[1]
        assert one.weight.data_ptr() == sae.weight[1].data_ptr()
        one(x).reconstruction.sum().backward()
        assert one.weight.grad is not None
        assert sae.weight.grad is None
        sae.requires_grad_(False)
        assert not any(parameter.requires_grad for parameter in sae[1].parameters())
        assert not sae.eval()[0].training

    @pytest.mark.parametrize("which", [3, -4, slice(3, 9), slice(None, None, -1)])
    def test_what_is_not_there_is_refused(self, sae, which):
        with pytest.raises(IndexError):
            sae[which]
        with pytest.raises(TypeError):
            sae["0"]

    def test_repr_says_what_it_is(self):
        assert repr(topk()) == "TopKSAE(n_saes=3, d_in=6, n_features=11, k=3)"
        other = topk(1, decoder="raw", activation="relu", decoder_bias=True)
        expected = "n_saes=1, d_in=6, n_features=11, k=3, decoder='raw', activation='relu', decoder_bias=True"
        assert repr(other) == f"TopKSAE({expected})"
        assert repr(topk(k=(1, 2, 3))) == "TopKSAE(n_saes=3, d_in=6, n_features=11, k=[1, 2, 3])"
        assert repr(relu(2)) == "ReLUSAE(n_saes=2, d_in=6, n_features=11)"

    def test_a_repr_makes_the_same_form(self, sae):
        assert eval(repr(sae), {"TopKSAE": TopKSAE, "ReLUSAE": ReLUSAE}).settings == sae.settings

    def test_copies_are_whole(self, sae, x):
        assert torch.equal(copy.deepcopy(sae)(x).reconstruction, sae(x).reconstruction)


OTHERS = [{"k": 4}, {"k": (3, 3, 2)}, {"activation": "relu"}, {"decoder": "raw"}]


class TestStateDict:
    @pytest.mark.parametrize("state", [3, torch.zeros(3, dtype=torch.uint8), None])
    def test_what_says_nothing_is_refused_in_a_sentence(self, state):
        with pytest.raises(RuntimeError, match=r"state_dict: of an SAE with .*make one with those settings"):
            topk().load_state_dict(topk().state_dict() | {"_extra_state": state})

    @pytest.mark.parametrize("options", OTHERS)
    @pytest.mark.parametrize("way", ["itself", "plain", "torch.save", "safetensors", "within"])
    def test_another_configuration_is_refused_and_nothing_is_overwritten(self, options, way, tmp_path):
        state, other = topk().state_dict(), topk(seed=1, **options)
        before = other.weight.detach().clone()
        target = other
        if way == "plain":
            state = dict(state)
        elif way == "torch.save":
            torch.save(state, buffer := io.BytesIO())
            buffer.seek(0)
            state = torch.load(buffer, weights_only=True)
        elif way == "safetensors":
            save_file(state, tmp_path / "state.safetensors")
            state = load_file(tmp_path / "state.safetensors")
        elif way == "within":
            target = torch.nn.ModuleDict({"sae": other})
            state = torch.nn.ModuleDict({"sae": topk()}).state_dict()
        name = next(iter(options))
        with pytest.raises(RuntimeError, match=rf"state_dict: of an SAE with .*{name}.*this one has .*{name}"):
            target.load_state_dict(state)
        assert torch.equal(other.weight, before)

    @pytest.mark.parametrize("options", TOPK)
    def test_the_same_configuration_is_loaded(self, options, x):
        one, other = topk(**options), topk(seed=1, **options)
        other.load_state_dict(one.state_dict())
        assert torch.equal(one(x).reconstruction, other(x).reconstruction)
        within = torch.nn.ModuleDict({"sae": topk(seed=2, **options)})
        within.load_state_dict(torch.nn.ModuleDict({"sae": one}).state_dict())
        assert torch.equal(within["sae"].weight, one.weight)

    def test_a_shift_or_another_size_is_refused_as_ever(self):
        for other in (topk(decoder_bias=True), topk(2), TopKSAE(3, 6, 12, 3)):
            with pytest.raises(RuntimeError):
                other.load_state_dict(topk().state_dict())

    def test_weights_by_name_are_loaded(self):
        one, other = topk(), topk(seed=1, k=4)
        other.load_state_dict(dict(one.named_parameters()))
        assert torch.equal(one.weight, other.weight)


def rewrite(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


class TestFiles:
    @pytest.fixture
    def folder(self, tmp_path):
        topk().save(tmp_path / "sae")
        return tmp_path / "sae"

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"format": 2}, r"format 2, this mfrlib reads 1; .*later mfrlib"),
            ({"format": None}, "format None"),
            ({"kind": ["TopKSAE"]}, "format 1"),
            ({"extra": 1}, "unknown or missing: extra;"),
            ({"kind": "ReLUSAE"}, "another configuration"),
            ({"settings": {**topk().settings, "k": [3, 3, 4]}}, "another configuration"),
            ({"settings": {**topk().settings, "activation": "relu"}}, "another configuration"),
            ({"sha256": "0" * 64}, "damaged, or of another SAE"),
        ],
    )
    def test_a_changed_config_is_refused(self, folder, changes, words):
        rewrite(folder, **changes)
        with pytest.raises(SAEFileError, match=words):
            load(folder)

    def test_weights_of_another_sae_are_refused(self, folder, tmp_path):
        topk(seed=1).save(tmp_path / "other")
        os.replace(tmp_path / "other" / "sae.safetensors", folder / "sae.safetensors")
        with pytest.raises(SAEFileError, match="damaged, or of another SAE"):
            load(folder)

    @pytest.mark.parametrize("where", [0, 10, 300, -1])
    def test_a_flipped_bit_or_a_cut_file_is_found(self, folder, where):
        path = folder / "sae.safetensors"
        whole = bytearray(path.read_bytes())
        path.write_bytes(whole[:where])
        with pytest.raises(SAEFileError, match=r"sae\.safetensors: damaged"):
            load(folder)
        whole[where] ^= 1
        path.write_bytes(whole)
        with pytest.raises(SAEFileError, match=r"sae\.safetensors: damaged"):
            load(folder)

    @pytest.mark.parametrize("text", ["", "{", 100_000 * "["])
    def test_damaged_settings_beside_the_weights_are_found(self, folder, text):
        path = folder / "sae.safetensors"
        save_file(load_file(path), path, {"mfrlib": text})
        rewrite(folder, sha256=sae_files.sha256(path))
        with pytest.raises(SAEFileError, match=r"sae\.safetensors: damaged"):
            load(folder)

    @pytest.mark.parametrize("text", ["", "{", "[]", "\xff", 100_000 * "["])
    def test_a_damaged_config_is_found(self, folder, text):
        (folder / "config.json").write_bytes(text.encode("latin-1"))
        with pytest.raises(SAEFileError, match=r"config\.json: "):
            load(folder)

    @pytest.mark.parametrize(
        ("stored", "words"),
        [
            (("Other", {}, {"weight": torch.zeros(1)}), "kind 'Other', this mfrlib knows TopKSAE, ReLUSAE"),
            (("TopKSAE", {**topk().settings, "nonsense": 1}, topk().state_dict()), "nonsense"),
            (("TopKSAE", {**topk().settings, "k": [99] * 3}, topk().state_dict()), "between 1 and n_features = 11"),
            (("TopKSAE", topk(1).settings, dict(topk().named_parameters())), "parameters of this TopKSAE"),
            (("TopKSAE", topk().settings, {"weight": topk().weight}), "parameters of this TopKSAE"),
            (("TopKSAE", topk().settings | {"d_in": 10**18}, topk().state_dict()), "parameters of this TopKSAE"),
            (("TopKSAE", topk().settings | {"n_saes": 10**12}, topk().state_dict()), "parameters of this TopKSAE"),
            (("TopKSAE", [3], topk().state_dict()), "settings of a TopKSAE"),
            (("TopKSAE", topk().settings, {n: v.long() for n, v in topk().named_parameters()}), "floating-point type"),
        ],
    )
    def test_whole_files_that_make_no_sae_are_refused(self, stored, words, tmp_path):
        sae_files.write(tmp_path, sae_files.Stored(*stored))
        with pytest.raises(SAEFileError, match=words):
            load(tmp_path)

    def test_no_sae_there_is_said_with_the_way_out(self, folder, tmp_path):
        with pytest.raises(SAEFileError, match=r"no-such: there is no such folder$"):
            load(tmp_path / "no-such")
        with pytest.raises(SAEFileError, match="a file: give the folder that it lies in"):
            load(folder / "sae.safetensors")
        with pytest.raises(SAEFileError, match=r"no config\.json and sae\.safetensors; sae\.save"):
            load(tmp_path)
        (folder / "sae.safetensors").unlink()
        (folder / "sae.pt").touch()
        with pytest.raises(SAEFileError, match=r"no sae\.safetensors; pickled files are not opened"):
            load(folder)
        (folder / "config.json").rename(folder / "cfg.json")
        with pytest.raises(SAEFileError, match=r"mfrlib\.load_foreign"):
            load(folder)

    def test_a_byte_order_mark_of_an_editor_is_no_damage(self, folder, x):
        path = folder / "config.json"
        path.write_text(path.read_text(), encoding="utf-8-sig")
        assert torch.equal(load(folder)(x).reconstruction, topk()(x).reconstruction)

    def test_saving_again_replaces(self, folder, x):
        relu().save(folder)
        assert torch.equal(load(folder)(x).reconstruction, relu()(x).reconstruction)
        assert len(list(folder.iterdir())) == 2

    def test_a_folder_of_something_else_is_left_alone(self, x, tmp_path):
        config = mfrlib.TrainingConfig(steps=3, batch_size=20, n_features=12, k=3, device="cpu")
        trained = mfrlib.train(config, x, folder=tmp_path, progress=False)
        with pytest.raises(SAEFileError, match=r"config\.json is of something else.*another folder"):
            trained.sae.save(tmp_path)
        mfrlib.train(config, x, folder=tmp_path, progress=False)
        (tmp_path / "sae.safetensors").touch()
        with pytest.raises(SAEFileError, match="format None"):
            load(tmp_path)

    def test_saved_by_two_at_once_it_is_one_of_them(self, folder, x):
        stacks = [topk(1, seed=1), relu(1)]
        with ThreadPoolExecutor(2) as threads:
            for done in [threads.submit(one.save, folder) for _ in range(20) for one in stacks]:
                done.result()
        found = load(folder)(x).reconstruction
        assert any(torch.equal(found, one(x).reconstruction) for one in stacks)
        assert len(list(folder.iterdir())) == 2

    def test_who_reads_the_folder_reads_all_of_it(self, folder, x, tmp_path):
        """The library of safetensors writes files that only their owner can read."""
        config = mfrlib.TrainingConfig(steps=3, batch_size=20, n_features=12, k=3, device="cpu")
        mfrlib.train(config, x, folder=tmp_path / "run", progress=False)
        mfrlib.export.to_saelens(topk(1), tmp_path / "theirs")
        for place in (folder, tmp_path / "run", tmp_path / "theirs"):
            modes = {one.stat().st_mode for one in place.iterdir() if one.suffix in (".json", ".safetensors")}
            assert len(modes) == 1, place

    @pytest.mark.parametrize("change", ["pruned", "two types", "meta"])
    def test_what_could_not_be_opened_is_not_written(self, change, tmp_path):
        sae = topk()
        if change == "pruned":
            prune.l1_unstructured(sae, "weight", 0.5)
        elif change == "two types":
            sae.bias.data = sae.bias.data.double()
        else:
            sae.to("meta")
        with pytest.raises(SAEFileError, match=r"weight_orig|one floating-point type|meta device"):
            sae.save(tmp_path / "sae")
        assert not (tmp_path / "sae").exists()

    def test_a_class_of_the_user_s_own_is_opened_as_what_it_is_made_of(self, x, tmp_path):
        class Mine(TopKSAE):
            def __init__(self, size):
                super().__init__(1, 6, size, 3)

        mine = Mine(11)
        mine.save(tmp_path)
        assert type(load(tmp_path)) is TopKSAE
        assert torch.equal(load(tmp_path)(x).reconstruction, mine(x).reconstruction)

    def test_a_file_is_no_folder(self, tmp_path):
        (tmp_path / "sae").write_text("mine")
        with pytest.raises(SAEFileError, match="is a file"):
            topk().save(tmp_path / "sae")

    def test_a_link_to_nothing_is_no_folder(self, tmp_path):
        (tmp_path / "sae").symlink_to(tmp_path / "nowhere")
        with pytest.raises(SAEFileError, match="is a link to nothing; save to a folder"):
            topk().save(tmp_path / "sae")

    def test_a_link_to_a_folder_is_one(self, tmp_path, x):
        (tmp_path / "there").mkdir()
        (tmp_path / "sae").symlink_to(tmp_path / "there")
        topk().save(tmp_path / "sae")
        assert torch.equal(load(tmp_path / "there")(x).reconstruction, topk()(x).reconstruction)

    def test_a_device_that_is_not_there_is_refused(self, folder):
        with pytest.raises(ConfigError, match=r"device: must be cpu, or cuda .*given 'gpu'"):
            load(folder, "gpu")

    @staticmethod
    def killed(monkeypatch, at, sae, folder):
        """Save an SAE, and end at the so-manieth flushing or moving of a file."""
        calls = iter(range(9))

        def dying(plain):
            def call(*arguments, **options):
                if next(calls) == at:
                    raise InterruptedError
                return plain(*arguments, **options)

            return call

        with monkeypatch.context() as patch:
            for name in ("fsync", "replace"):
                patch.setattr(os, name, dying(getattr(os, name)))
            with pytest.raises(InterruptedError):
                sae.save(folder)

    @pytest.mark.parametrize("at", range(5))
    def test_killed_twice_in_a_row_it_is_one_of_the_last_two(self, tmp_path, monkeypatch, x, at):
        """The configuration of the weights that are there was on its way, and the second saving wrote over it."""
        topk(seed=1).save(tmp_path)
        self.killed(monkeypatch, 3, topk(), tmp_path)
        self.killed(monkeypatch, at, relu(), tmp_path)
        expected = relu() if at == 4 else topk()
        assert torch.equal(load(tmp_path)(x).reconstruction, expected(x).reconstruction)

    @pytest.mark.parametrize("new", [True, False])
    @pytest.mark.parametrize("at", range(4))
    def test_killed_at_any_moment_it_is_the_old_one_or_the_new_one(self, tmp_path, monkeypatch, x, new, at):
        folder = tmp_path / "sae"
        if not new:
            topk().save(folder)
        self.killed(monkeypatch, at, relu(), folder)
        if new:
            with pytest.raises(SAEFileError, match=r"no (config\.json and )?sae\.safetensors"):
                load(folder)
        else:  # with the last file to move, its config on its way, the SAE is the new one already
            expected = relu() if at == 3 else topk()
            assert torch.equal(load(folder)(x).reconstruction, expected(x).reconstruction)
        relu().save(folder)
        assert torch.equal(load(folder)(x).reconstruction, relu()(x).reconstruction)
        assert len(list(folder.iterdir())) == 2
