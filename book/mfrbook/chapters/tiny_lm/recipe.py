"""A small language model trained from nothing: its tokenizer, its training loop, its measures."""

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from mfrlib.data.text.packing import pack
from mfrlib.environment import shows
from mfrlib.randomness import Orders, generator

END_OF_TEXT = "<|endoftext|>"
"""Between documents and at the start of every sequence; token 0."""
_WEIGHTS, _BATCHES = 41, 42  # streams of a seed


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Any:
    """Return a byte-level BPE tokenizer (of the library tokenizers): every text has tokens, and they give it back."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def packed(texts: list[str], tokenizer: Any, context: int, most: int | None = None) -> NDArray[np.int64]:
    """Return texts as sequences of tokens `(sequence, position)`, `most` of them at most."""

    def encode(some: list[str]) -> list[list[int]]:
        return [one.ids for one in tokenizer.encode_batch(some, add_special_tokens=False)]

    return pack(texts, encode, tokenizer.token_to_id(END_OF_TEXT), context, most).tokens


def build(config: Any) -> Any:
    """Return the untrained model: GPT-2's architecture, the output layer tied to the token embedding, no dropout."""
    from transformers import GPT2Config, GPT2LMHeadModel

    architecture = GPT2Config(
        vocab_size=config.vocabulary,
        n_positions=config.context,
        n_embd=config.d_model,
        n_layer=config.n_layers,
        n_head=config.n_heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(config.seed, _WEIGHTS).initial_seed())  # transformers draws from the global one
        return GPT2LMHeadModel(architecture)


def train(config: Any, sequences: NDArray[np.int64], folder: Path, progress: bool = True) -> tuple[Any, list[Any]]:
    """Train a model, going on from the folder's checkpoint if it holds one.

    AdamW with weight decay on matrices, gradients clipped to norm 1, linear warm-up and a cosine down to a tenth of the learning rate.

    Parameters
    ----------
    config : TinyLMConfig
    sequences : ndarray (sequence, position)
        An epoch visits each once, in an order of its own.
    folder : Path
        Of the checkpoint.

    Returns
    -------
    model
        Of transformers.
    metrics : list of dict
        Step and training loss, in nats per token.

    Raises
    ------
    RuntimeError
        If the loss is no longer finite.
    """
    model = build(config).train()
    decayed = [one for one in model.parameters() if one.ndim > 1]
    others = [one for one in model.parameters() if one.ndim == 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95), fused=True)
    path = folder / "checkpoint.safetensors"
    start, metrics = _restore(path, model, optimizer)
    orders = Orders(len(sequences), config.seed, _BATCHES)
    bar = tqdm(
        total=config.steps, initial=start, desc="tiny-lm", unit="step", disable=not shows(progress), mininterval=10
    )
    with bar:
        for step in range(start, config.steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, step)
            chosen = orders.at(step * config.batch_size + torch.arange(config.batch_size))
            loss = _loss(model, torch.from_numpy(sequences[chosen.numpy()])).mean()
            if not torch.isfinite(loss):
                raise RuntimeError(f"loss is not finite at step {step}; try a smaller learning_rate")
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if step % config.log_every == 0 or step == config.steps - 1:
                metrics.append({"step": step, "loss": loss.item()})
                bar.set_postfix_str(f"loss {loss.item():.3f}", refresh=False)
            if (step + 1) % config.checkpoint_every == 0 or step == config.steps - 1:
                _save(path, model, optimizer, step + 1, metrics)
            bar.update()
    return model.eval(), metrics


def learning_rate(config: Any, step: int) -> float:
    """Return the learning rate of a step."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


@torch.no_grad()
def held_out_loss(model: Any, sequences: NDArray[np.int64]) -> float:
    """Return the mean cross-entropy of a model, in nats per token."""
    parts = [_loss(model, part).flatten() for part in torch.from_numpy(sequences).split(32)]
    return torch.cat(parts).double().mean().item()


def unigram_loss(trained: NDArray[np.int64], held_out: NDArray[np.int64], vocabulary: int) -> float:
    """Return the mean cross-entropy of the tokens' frequencies, each count plus one, in nats per token."""
    counts = np.bincount(trained[:, 1:].ravel(), minlength=vocabulary) + 1.0
    return float(-np.log(counts / counts.sum())[held_out[:, 1:]].mean())


def _loss(model: Any, tokens: Tensor) -> Tensor:
    logits = model(tokens, use_cache=False).logits[:, :-1]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")


def _save(path: Path, model: Any, optimizer: torch.optim.Optimizer, step: int, metrics: list[Any]) -> None:
    tensors = {f"model/{name}": value.detach() for name, value in model.named_parameters()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{number}/{key}": value for key, value in state.items()}
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary, metadata={"step": str(step), "metrics": json.dumps(metrics)})
    os.replace(temporary, path)


def _restore(path: Path, model: Any, optimizer: torch.optim.Optimizer) -> tuple[int, list[Any]]:
    try:
        file = safe_open(path, "pt")
    except (FileNotFoundError, SafetensorError):  # a damaged checkpoint is as good as none: training starts again
        return 0, []
    with file:
        state: dict[int, dict[str, Tensor]] = {}
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(file.get_tensor(f"model/{name}"))
        for key in file.keys():  # noqa: SIM118 - not a dict
            if key.startswith("optimizer/"):
                _, number, what = key.split("/")
                state.setdefault(int(number), {})[what] = file.get_tensor(key)
        optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
        metadata = file.metadata()
        return int(metadata["step"]), json.loads(metadata["metrics"])
