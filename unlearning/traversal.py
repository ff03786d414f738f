"""Per-sample gradients of a whole model from one forward and one backward pass.

Hooks note what goes into every layer that has a rule (see `layer_gradients`) and the gradient that comes back
to its output; autograd's own weight gradients are never computed. Parameters that a model adds or multiplies
itself, with a leading dimension of 1 (class token, position embedding), are replaced by one copy a sample.
What is left takes the path of `slow_gradients`, and so does what fails the check.

The check compares with plain autograd: with random numbers e_i, sum_i e_i * (gradient of sample i) must be
the gradient of sum_i e_i * L_i. It finds layers that mix samples up, and parameters used behind a rule's
back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .layer_gradients import PREPARATIONS, Given, PerSample, Rule, rule_for
from .slow_gradients import Loss, SlowGradients

Contributions = dict[str, list[PerSample]]

CHECKED_SAMPLES = 8
TOLERANCE = 2e-3

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Call:
    """One call of a layer: what went in, and (after the backward pass) what came back."""

    path: str
    rule: Rule
    module: nn.Module
    x: Tensor
    version: int
    g: Tensor | None = None

    def came_back(self, g: Tensor) -> None:
        self.g = g.detach() if self.g is None else self.g + g.detach()

    def gradients(self, count: int) -> dict[str, PerSample]:
        """By local name. Rows of a sample that a model spread over dimension 0 are brought together.

        Raises:
            ValueError: the rows cannot be told apart, or the input was overwritten.
        """
        if self.g is None:
            return {}
        if self.x._version != self.version:
            raise ValueError("its input is overwritten later")
        if len(self.x) % count or len(self.g) % count:
            raise ValueError("its rows are not those of the samples")
        if len(self.x) == count:
            return self.rule(self.module, self.x, self.g)
        if not isinstance(self.module, nn.Linear | nn.LayerNorm):
            raise ValueError("it is called on parts of the samples")
        return self.rule(self.module, self.x.unflatten(0, (count, -1)), self.g.unflatten(0, (count, -1)))


class Traversal:
    """Per-sample gradients of one model for one loss.

    Args:
        model: in eval mode; hooks are added for the time of a pass and removed.
        parameters: detached values by name, at least float32.
        buffers: likewise.
        loss: per sample.
    """

    def __init__(
        self, model: nn.Module, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], loss: Loss
    ) -> None:
        self.model, self.parameters, self.buffers, self.loss = model, parameters, buffers, loss
        self._slowly = SlowGradients(model, {**parameters, **buffers}, loss)
        canonical = {id(p): name for name, p in model.named_parameters()}
        self._layers = {path: m for path, m in model.named_modules() if rule_for(m) is not None}
        self._names = {
            (path, local): canonical[id(p)]
            for path, layer in self._layers.items()
            for local, p in layer.named_parameters(recurse=False)
        }
        self._copied = {
            name
            for name, value in parameters.items()
            if name not in self._names.values() and value.ndim > 1 and len(value) == 1
        }
        self.slow = set(parameters) - set(self._names.values()) - self._copied
        self._checked = 0

    def gradients(self, x: Tensor, y: Tensor) -> tuple[Tensor, Contributions]:
        """The logits [n, classes], and each parameter's contributions (none: all its gradients are 0)."""
        if self._checked < min(2, len(x)):
            self._check(x[:CHECKED_SAMPLES], y[:CHECKED_SAMPLES])
        logits, found = self._fast(x, y)
        if self.slow:
            for name, values in self._slowly(self.slow, x, y).items():
                found[name] = [Given(values)]
        return logits, found

    def bytes_per_sample(self, x: Tensor, y: Tensor) -> int:
        """Of x [1, ...]: saved activations, their gradients, what the rules hold, and slow gradients."""
        weights = {value.data_ptr() for value in self.parameters.values()}
        saved: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            if tensor.data_ptr() not in weights:
                saved[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            _, found = self._fast(x, y)
        calls = sum(c.nbytes for contributions in found.values() for c in contributions)
        slow = sum(self.parameters[n].numel() * self.parameters[n].element_size() for n in self.slow)
        return max(1, 2 * sum(saved.values()) + calls + 2 * slow)

    def _fast(self, x: Tensor, y: Tensor) -> tuple[Tensor, Contributions]:
        calls: list[_Call] = []
        copies = {name: self._copy(name, len(x)) for name in self._copied}
        with torch.enable_grad(), self._recording(calls):
            logits = functional_call(self.model, {**self.parameters, **copies, **self.buffers}, (x,))
            losses = self.loss(logits, y)
            if losses.requires_grad:
                losses.sum().backward()
        found = self._collected(calls, len(x))
        for name, copy in copies.items():
            found[name] = [] if copy.grad is None else [Given(copy.grad[:, None])]
        return logits.detach(), found

    def _copy(self, name: str, count: int) -> Tensor:
        value = self.parameters[name]
        return value.expand(count, *value.shape[1:]).clone().requires_grad_()

    @contextmanager
    def _recording(self, calls: list[_Call]) -> Iterator[None]:
        handles = [
            layer.register_forward_hook(_recorder(path, rule_for(layer), calls))
            for path, layer in self._layers.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _collected(self, calls: list[_Call], count: int) -> Contributions:
        found: Contributions = {name: [] for name in self._names.values() if name not in self.slow}
        for call in calls:
            try:
                gradients = call.gradients(count)
            except ValueError as reason:
                self._give_up(self._of_layer(call.path), f"{call.path}: {reason}")
                continue
            for local, gradient in gradients.items():
                name = self._names.get((call.path, local))
                if name in found:
                    found[name].append(gradient)
        return {name: gradients for name, gradients in found.items() if name not in self.slow}

    def _of_layer(self, path: str) -> set[str]:
        return {name for (layer, _), name in self._names.items() if layer == path}

    def _give_up(self, names: set[str], reason: str) -> None:
        new = names - self.slow
        if new:
            logger.warning(
                "per-sample gradients of %d parameter tensors take a slower, equally exact path (%s)",
                len(new),
                reason,
            )
        self.slow |= new
        self._copied -= new

    def _check(self, x: Tensor, y: Tensor) -> None:
        """Move to the slow path whatever differs from plain autograd on a few samples."""
        self._checked = len(x)
        draws = torch.randn(len(x), generator=torch.Generator().manual_seed(0)).to(x.device)
        expected = self._weighted_by_autograd(x, y, draws)
        try:
            _, found = self._fast(x, y)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or not self._copied:
                raise
            self._give_up(set(self._copied), "the model does not take one copy a sample")
            _, found = self._fast(x, y)
        scale = max((float(e.abs().max()) for e in expected.values()), default=0.0)
        wrong = {
            name
            for name, contributions in found.items()
            if not _agrees(_weighted(contributions, draws), expected[name], scale)
        }
        if wrong:
            self._give_up(wrong, f"{min(wrong)} is used in a way its layer does not show")

    def _weighted_by_autograd(self, x: Tensor, y: Tensor, draws: Tensor) -> dict[str, Tensor]:
        leaves = {name: value.detach().requires_grad_() for name, value in self.parameters.items()}
        with torch.enable_grad():
            logits = functional_call(self.model, {**leaves, **self.buffers}, (x,))
            total = (self.loss(logits, y) * draws.to(logits.dtype)).sum()
        values = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True)
        return dict(zip(leaves, values, strict=True))


def _recorder(path: str, rule: Rule | None, calls: list[_Call]) -> Callable[..., Any]:
    """A forward hook that notes the call; the first layers become the leaves of the backward pass."""

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        if rule is None or len(inputs) != 1 or not isinstance(output, Tensor):
            return None
        if not output.requires_grad:
            output = output.detach().requires_grad_()
        x = inputs[0].detach()
        if rule in PREPARATIONS:
            x = PREPARATIONS[rule](module, x)
        call = _Call(path, rule, module, x, x._version)
        output.register_hook(call.came_back)
        calls.append(call)
        return output

    return note


def _weighted(contributions: list[PerSample], draws: Tensor) -> Tensor | float:
    total: Tensor | float = 0.0
    for contribution in contributions:
        rows = contribution.rows(0, contribution.count)
        total = total + torch.tensordot(draws.to(rows.dtype), rows, dims=1)
    return total


def _agrees(found: Tensor | float, expected: Tensor, scale: float) -> bool:
    """Within `TOLERANCE` of the tensor's largest entry, or of what is rounding beside the whole model's."""
    largest = max(float(expected.abs().max()), 1e-6 * scale) if expected.numel() else 1.0
    difference = (found - expected).abs() if isinstance(found, Tensor) else expected.abs()
    return not difference.numel() or float(difference.max()) <= TOLERANCE * largest
