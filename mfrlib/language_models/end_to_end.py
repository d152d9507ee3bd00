"""SAEs inside a language model: inserted in place of an activation, trained through the model, and measured there."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from mfrlib.config import checked, require, whole
from mfrlib.language_models.language_model import LanguageModel, next_token_loss
from mfrlib.models.objectives import FVU, doubled, kl_divergence, reconstruction_loss
from mfrlib.models.relu_sae import ReLUOutput, ReLUSAE, sparsity_loss
from mfrlib.models.sae import SAEOutput, TopKSAE

Kind = Literal["local", "e2e", "downstream"]


class Inserted(NamedTuple):
    """A pass without SAEs, and one with each SAE of a stack.

    Attributes
    ----------
    x : Tensor (n, d_in)
        The activations that were replaced: those of all sequences, without the positions left alone.
    output : SAEOutput or ReLUOutput
        The stack's output on them.
    original : Tensor (sequence, position, vocabulary)
        Logits of the model as it is.
    new : Tensor (sae, sequence, position, vocabulary)
        Logits with each SAE's reconstruction in place of the activation.
    later : dict
        At later hooks, activations without SAEs `(sequence, position, width)`, and with `(sae, sequence, position, width)`.
    """

    x: Tensor
    output: SAEOutput | ReLUOutput
    original: Tensor
    new: Tensor
    later: dict[str, tuple[Tensor, Tensor]]

    @property
    def kl(self) -> Tensor:
        """KL(original ‖ new) of each SAE, `(sae,)`, mean over the replaced positions.

        Positions before them have the same logits in both passes and add nothing.
        """
        mean = kl_divergence(self.original.flatten(0, 1), self.new.flatten(1, 2))
        return mean * (self.original.shape[0] * self.original.shape[1] / len(self.x))


def insert(
    model: LanguageModel, sae: TopKSAE | ReLUSAE, hook: str, tokens: Tensor, *, skip: int = 0, read: Sequence[str] = (),
    bfloat16: bool = False,
) -> Inserted:  # fmt: skip
    """Run a model as it is, and with every SAE of a stack in place of an activation.

    In the residual stream all SAEs share one pass up to the hook. Gradients reach the SAEs only: through the
    reconstruction, and not through the activation that they are given.

    Parameters
    ----------
    model, sae, hook
    tokens : Tensor (sequence, position), int64
    skip : int
        Positions left as they are at the start of each sequence, such as the beginning-of-sequence token.
    read : sequence of str
        Later hooks to read in both passes.
    bfloat16 : bool
        Whether the model's products are taken in bfloat16; its output comes in float32, and SAEs stay in it.

    Raises
    ------
    LanguageModelError
        If there is no such hook, or the SAEs are of another width.
    """
    model.require_width(hook, sae.weight.shape[2])
    model.check_tokens(tokens)
    require(whole("skip", skip, 0) < tokens.shape[1], "skip", skip, f"must be from 0 to {tokens.shape[1] - 1}")
    faster = partial(torch.autocast, model.device.type, torch.bfloat16, enabled=bfloat16)
    with torch.no_grad(), faster():
        clean = model.run(tokens, read=[hook, *read])
    precise = torch.promote_types(clean.logits.dtype, torch.float32)  # the model's own, whatever the SAEs'
    original = clean.activations[hook].to(precise)
    x = original[:, skip:].flatten(0, 1)
    output = sae(x.to(sae.weight))
    n_saes, (n_sequences, n_positions, d_in) = len(output.reconstruction), original.shape
    rebuilt = output.reconstruction.to(original).view(n_saes, n_sequences, n_positions - skip, d_in)
    spared = original[None, :, :skip].expand(n_saes, -1, -1, -1)
    replacement = torch.cat([spared, rebuilt], dim=2).flatten(0, 1)
    with faster():
        changed = model.run(tokens, read=read, replace={hook: replacement})

    def of_each(value: Tensor) -> Tensor:
        return value.to(precise).view(n_saes, n_sequences, *value.shape[1:])

    later = {name: (clean.activations[name].to(precise), of_each(changed.activations[name])) for name in read}
    return Inserted(x, output, clean.logits.to(precise), of_each(changed.logits), later)


def later_hooks(model: LanguageModel, hook: str) -> tuple[str, ...]:
    """Return where downstream reconstruction is asked for: the residual stream before every later block.

    Empty where no block follows, and at hooks outside of the blocks, such as `hook_embed`.
    """
    found = re.match(r"blocks\.(\d+)\.", hook)
    first = int(found[1]) + 1 if found else model.n_layers
    names = tuple(f"blocks.{layer}.hook_resid_pre" for layer in range(first, model.n_layers))
    return names[1:] if hook.endswith("hook_resid_post") else names


@dataclass(frozen=True)
class Objective:
    r"""What the SAEs of a stack are trained for: the loss of each, and the stack's output.

    .. math::
        L_\text{local} &= \lVert x - \hat x \rVert^2 / d + \lambda S \\
        L_\text{e2e} &= \kappa \operatorname{KL}(\text{original} \,\|\, \text{new}) + \lambda S \\
        L_\text{downstream} &= L_\text{e2e} + \frac{\beta}{|H|} \sum_{h \in H} \lVert x_h - x_h' \rVert^2 / d

    with S the `sparsity_loss` of ReLU SAEs (none for TopK), :math:`\hat x` inserted at the hook, and H the residual
    stream before each later block, without and with it. All are means over positions (arXiv 2405.12241 §2).

    Parameters
    ----------
    model : LanguageModel
    hook : str
    kind : {"local", "e2e", "downstream"}
    sparsity : Tensor (sae,) or None
        λ, one per SAE.
    p : float
        Norm in the sparsity loss.
    downstream : float
        β, shared out evenly over the hooks H; 0, the default, asks nothing of later blocks.
    kl : float
        κ, weight of the KL term.
    skip : int
        Positions left alone at the start of each sequence.
    bfloat16 : bool
        As in `insert`.
    """

    model: LanguageModel
    hook: str
    kind: Kind
    sparsity: Tensor | None = None
    p: float = 1.0
    downstream: float = 0.0
    kl: float = 1.0
    skip: int = 0
    bfloat16: bool = False

    def __post_init__(self) -> None:
        """Refuse impossible settings, `downstream` without a later layer (ConfigError), and an unknown hook (LanguageModelError)."""
        hints = {"kind": Kind, "p": float, "downstream": float, "kl": float, "skip": int, "bfloat16": bool}
        given = checked({name: getattr(self, name) for name in hints}, hints) | {"sparsity": self.sparsity}
        for name in ("sparsity", "p", "downstream", "kl", "skip"):
            value = torch.as_tensor(0 if given[name] is None else given[name])
            fits = ((value > 0) if name == "p" else (value >= 0)) & value.isfinite()
            require(bool(fits.all()), name, given[name], "must be finite, 0 or more" + " but not 0" * (name == "p"))
        self.model.width(self.hook)
        allowed = f"must have a block after it, {self.model.id} has {self.model.n_layers}"
        require(self.kind != "downstream" or bool(later_hooks(self.model, self.hook)), "hook", self.hook, allowed)

    def __call__(self, sae: TopKSAE | ReLUSAE, tokens: Tensor) -> tuple[Tensor, SAEOutput | ReLUOutput]:
        """Return the loss of each SAE, `(sae,)`, on sequences of tokens, and the stack's output."""
        if self.kind == "local":
            x = self.model.activations(tokens, [self.hook])[self.hook][:, self.skip :].flatten(0, 1)
            require(len(x) > 0, "skip", self.skip, f"must be less than the {tokens.shape[1]} positions")
            output = sae(x.to(sae.weight))
            loss = reconstruction_loss(output.reconstruction, x)
        else:
            read = later_hooks(self.model, self.hook) if self.kind == "downstream" else ()
            inserted = insert(self.model, sae, self.hook, tokens, skip=self.skip, read=read, bfloat16=self.bfloat16)
            output = inserted.output
            loss = self.kl * inserted.kl
            for before, after in inserted.later.values():
                before, after = before[:, self.skip :].flatten(0, 1), after[:, :, self.skip :].flatten(1, 2)
                loss = loss + self.downstream / len(read) * reconstruction_loss(after, before)
        if isinstance(output, ReLUOutput) and self.sparsity is not None:
            weights = torch.as_tensor(self.sparsity).to(loss)
            allowed = f"must be one number, or one for each of {len(loss)} SAEs"
            require(weights.shape in ((), (1,), loss.shape), "sparsity", self.sparsity, allowed)
            loss = loss + weights * sparsity_loss(output.codes, output.reconstruction.shape[-1], self.p)
        return loss, output


@torch.no_grad()
def measure(
    model: LanguageModel, sae: TopKSAE | ReLUSAE, hook: str, batches: Iterable[Tensor], *, skip: int = 0
) -> dict[str, Any]:
    """Measure what a model loses with each SAE inserted, on held-out sequences.

    Parameters
    ----------
    batches : iterable of Tensor (sequence, position)
    skip : int
        As in `insert`: positions left alone count for nothing.

    Returns
    -------
    dict
        `ce`, the model's own cross-entropy in nats per token; and lists with one value per SAE: `ce_increase`, `kl` (nats),
        `l0` (active features per position), `explained_variance` at the hook, and `later`: the same by later hook.
        Explained variance is 1 - FVU, of sums over all positions.
    """
    read = later_hooks(model, hook)
    fvu = {name: FVU() for name in (hook, *read)}
    totals: dict[str, Tensor] = {}
    n_positions = n_predictions = 0
    for tokens in batches:
        found = insert(model, sae, hook, tokens := tokens.to(model.device), skip=skip, read=read)
        n, targets = len(found.x), tokens[:, skip:]
        require(targets.shape[1] > 1, "skip", skip, f"must be from 0 to {tokens.shape[1] - 2}")
        predictions = targets.numel() - len(targets)
        ce = doubled(next_token_loss(found.original[:, skip:], targets)).mean()
        new_ce = torch.stack([doubled(next_token_loss(one[:, skip:], targets)).mean() for one in found.new])
        l0 = doubled(sae.usage(found.output)[0].sum(1)) / n
        for name, value in {"ce": ce, "ce_increase": new_ce - ce, "kl": doubled(found.kl), "l0": l0}.items():
            totals[name] = totals.get(name, torch.zeros(())) + value.cpu() * (predictions if "ce" in name else n)
        fvu[hook].update(found.output.reconstruction.to(found.x.device), found.x)
        for name, (before, with_sae) in found.later.items():
            fvu[name].update(with_sae[:, :, skip:].flatten(1, 2), before[:, skip:].flatten(0, 1))
        n_positions, n_predictions = n_positions + n, n_predictions + predictions
    require(n_positions > 0, "batches", type(batches).__name__, "must give a batch at least")
    weights = {"ce": n_predictions, "ce_increase": n_predictions, "kl": n_positions, "l0": n_positions}
    results: dict[str, Any] = {name: (total / weights[name]).tolist() for name, total in totals.items()}
    explained = {name: (1 - one.value()).tolist() for name, one in fvu.items()}
    return results | {"explained_variance": explained.pop(hook), "later": explained}
