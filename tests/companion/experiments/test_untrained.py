import pytest
import torch

from mfrbook.experiments import untrained


class TestUntrained:
    def test_only_the_token_embedding_is_pretrained_and_there_are_no_positions(self, tiny_lm):
        block = untrained.load("tiny-lm", "untrained-block", 3)
        assert block.id == "tiny-lm:untrained-block"
        tokens = torch.tensor([[5, 5, 9]])
        embedded = block.activations(tokens, ["blocks.0.hook_resid_pre"])["blocks.0.hook_resid_pre"]
        assert torch.equal(embedded[0, 0], embedded[0, 1])
        pretrained = tiny_lm.activations(tokens, ["hook_embed"])["hook_embed"]
        assert torch.equal(embedded, pretrained)
        found = block.activations(tokens, ["blocks.0.hook_mlp_out"])["blocks.0.hook_mlp_out"]
        trained = tiny_lm.activations(tokens, ["blocks.0.hook_mlp_out"])["blocks.0.hook_mlp_out"]
        assert not torch.allclose(found, trained, atol=1e-2)

    def test_the_seed_decides_and_the_global_generator_is_left_alone(self):
        torch.manual_seed(11)
        expected = torch.rand(1)
        torch.manual_seed(11)
        one, same, other = (untrained.load("tiny-lm", "untrained", seed).hash for seed in (0, 0, 1))
        assert torch.equal(torch.rand(1), expected)
        assert one == same != other

    def test_unknown_weights_are_refused(self):
        with pytest.raises(ValueError, match="weights: must be one of trained, untrained-block, untrained"):
            untrained.load("tiny-lm", "random")
