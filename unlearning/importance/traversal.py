"""Per-sample gradients of a whole model from one forward and one backward pass.

Hooks note what goes into every layer that has a rule (see `layer_gradients`) and the gradient that comes back
to its output; autograd's own weight gradients are never computed. Parameters that a model adds or multiplies
itself, with a leading dimension of 1 (class token, position embedding), are replaced by one copy a sample.
What is left takes the path of `slow_gradients`, and so does what fails the check.

The check compares with `single_samples`: plain autograd on one sample at a time, in double precision. With
random numbers e_i, sum_i e_i * (gradient of sample i) must be the same for both. So it shares neither the
batch nor the kernels with what it checks: it finds layers that mix samples up, parameters used behind a
rule's back, and operations of PyTorch whose gradients are wrong for a batch. The slow path is held against
it, too. It runs in float32 or better whatever the precision, as it tests rules and not rounding. A model
whose logits for a sample depend on the rest of the batch takes the slow path altogether.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.hooks import RemovableHandle

from ..inference import first_line
from ..memory import ran_out
from ..models import differentiable
from ..precision import Arithmetic
from .layer_calls import LayerCall, watch
from .layer_gradients import rule_for
from .per_sample import Given, PerSample
from .single_samples import largest, same, telling, unlike, weighted_gradients, wrong_beyond_kinks
from .slow_gradients import Loss, SlowGradients, Warnings

Contributions = dict[str, list[PerSample]]

CHECKED_SAMPLES = 8


class Traversal:
    """Per-sample gradients of one model for one loss.

    Args:
        model: in eval mode; hooks are added for the time of a pass and removed.
        parameters: detached values by name, at least float32.
        buffers: likewise.
        loss: per sample.
        warnings: where to say what takes the slow path; give several traversals of a model the same.
        arithmetic: of the fast path; the slow path is never of less than float32.

    Attributes:
        slow: names of the parameters that take the slow path, as far as is known.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: MutableMapping[str, Tensor],
        buffers: MutableMapping[str, Tensor],
        loss: Loss,
        warnings: Warnings | None = None,
        arithmetic: Arithmetic | None = None,
    ) -> None:
        self.model, self.parameters, self.buffers, self.loss = model, parameters, buffers, loss
        self._warnings = warnings or Warnings()
        self._arithmetic = arithmetic or Arithmetic()
        self._slowly = SlowGradients(model, ChainMap(parameters, buffers), loss, self._warnings)
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
        self.slow: set[str] = set()
        ruleless = set(parameters) - set(self._names.values()) - self._copied
        if ruleless:
            self._give_up(ruleless, f"no rule for {min(ruleless)}")
        self._checked = 0
        self._mixes = False

    def gradients(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Contributions]:
        """Return logits [n, classes], scales [n], and contributions by parameter (none: gradients of 0).

        The gradients of sample i are ``scales[i]`` times too large. To be called after `check` has seen the
        samples.
        """
        if self._mixes:
            logits = torch.cat([self._alone(x[i : i + 1]) for i in range(len(x))])
            found: Contributions = {}
            scales = logits.new_ones(len(x))
        else:
            logits, scales, found = self._fast(x, y)
        if self.slow:
            for name, values in self._slowly(self.slow, x, y).items():
                scale = scales.to(values).reshape(-1, *[1] * (values.ndim - 1))
                found[name] = [Given(values * scale if self._arithmetic.scaled else values)]
        return logits, scales, found

    def check(self, x: Tensor, y: Tensor) -> None:
        """Move to the slow path what differs from single samples on a few of them, unless done before.

        One sample, or samples that all have gradient 0, cannot tell: then the next ones are looked at too.
        """
        if self._checked < min(2, len(x)):
            with self._in_full_precision():
                self._check(x[:CHECKED_SAMPLES], y[:CHECKED_SAMPLES])

    def bytes_per_sample(self, x: Tensor, y: Tensor) -> int:
        """Count the bytes of a sample: saved activations, their gradients, what rules hold, slow gradients.

        Args:
            x: two samples, or one: with two, what does not grow with them (weights in half precision) is
                told apart from what does.
            y: their labels.
        """
        slow = len(self.slow)
        with self._without_copies() as copied:  # not checked yet, so two samples may be one too many
            fast = [self._held(x[:count], y[:count]) for count in range(1, min(len(x), 2) + 1)]
        if len(self.slow) > slow:  # found out half way
            return self.bytes_per_sample(x, y)
        needs = fast[-1] - sum(fast[:-1]) + 2 * sum(self.parameters[name].nbytes for name in copied)
        if self.slow:
            wanted = {name: self.parameters[name] for name in self.slow}
            with self._noting() as saved:
                self._slowly.one(wanted, x[:1].clone(), y[:1])
            needs += 2 * sum(saved.values()) + 2 * sum(value.nbytes for value in wanted.values())
        return max(1, needs)

    @contextmanager
    def _without_copies(self) -> Iterator[set[str]]:
        copied, self._copied = self._copied, set()
        try:
            yield copied
        finally:
            self._copied = copied - self.slow

    def _held(self, x: Tensor, y: Tensor) -> int:
        with self._noting() as saved:
            *_, found = self._fast(x, y)
        calls = sum(c.nbytes for contributions in found.values() for c in contributions)
        return 2 * sum(saved.values()) + calls

    @contextmanager
    def _noting(self) -> Iterator[dict[int, int]]:
        """Note the bytes of what autograd saves inside the block, weights apart."""
        weights = {value.data_ptr() for value in self.parameters.values()}
        saved: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            if tensor.data_ptr() not in weights:
                saved[tensor.data_ptr()] = tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            yield saved

    def _fast(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Contributions]:
        calls: list[LayerCall] = []
        copies = {name: self._copy(name, len(x)) for name in self._copied}
        with torch.enable_grad(), self._recording(calls):
            logits = self._logits({**self.parameters, **copies}, x)
            scales = self._backward(logits, y)
        found = self._collected(calls, len(x))
        for name, copy in copies.items():
            found[name] = [] if copy.grad is None else [Given(copy.grad[:, None])]
        return logits.detach(), scales, found

    def _backward(self, logits: Tensor, y: Tensor) -> Tensor:
        """Go back from the loss of every sample, times its scale; return the scales [n]."""
        losses = self.loss(logits, y)
        scales = torch.ones_like(losses.detach())
        if not losses.requires_grad:
            return scales
        if not self._arithmetic.scaled:
            losses.sum().backward()
            return scales
        (outer,) = torch.autograd.grad(losses.sum(), logits)
        scales = self._arithmetic.sample_scales(outer)
        logits.backward(outer * scales[:, None])
        return scales

    def _logits(self, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Compute the logits of a copy of x, as a model may write into its input."""
        with self._arithmetic.autocast(x.device), differentiable(self.model):
            logits: Tensor = functional_call(self.model, {**parameters, **self.buffers}, (x.clone(),))
        return self._arithmetic.widened(logits)

    def _copy(self, name: str, count: int) -> Tensor:
        value = self.parameters[name]
        return value.expand(count, *value.shape[1:]).clone().requires_grad_()

    @contextmanager
    def _recording(self, calls: list[LayerCall]) -> Iterator[None]:
        handles: list[RemovableHandle] = []
        try:
            for path, layer in self._layers.items():
                if not self._of_layer(path) <= self.slow:
                    handles += watch(path, layer, calls)
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _collected(self, calls: list[LayerCall], count: int) -> Contributions:
        found: Contributions = {name: [] for name in self._names.values() if name not in self.slow}
        refused: dict[str, list[str]] = {}
        for call in calls:
            try:
                gradients = call.gradients(count)
            except (ValueError, RuntimeError) as error:
                if ran_out(error):
                    raise
                refused.setdefault(first_line(error), []).append(call.path)
                continue
            for local, gradient in gradients.items():
                name = self._names.get((call.path, local))
                if name in found:
                    found[name].append(gradient)
        for reason, layers in refused.items():
            names = set[str]().union(*map(self._of_layer, layers))
            self._give_up(names, f"{_first_of(layers)}: {reason}")
        return {name: gradients for name, gradients in found.items() if name not in self.slow}

    def _of_layer(self, path: str) -> set[str]:
        return {name for (layer, _), name in self._names.items() if layer == path}

    def _give_up(self, names: set[str], reason: str) -> None:
        new = names - self.slow
        if new:
            self._warnings.say(
                f"per-sample gradients of {len(new)} parameter tensors take a slower, equally exact path "
                f"({reason})"
            )
        self.slow |= new
        self._copied -= new

    @contextmanager
    def _in_full_precision(self) -> Iterator[None]:
        arithmetic, self._arithmetic = self._arithmetic, Arithmetic()
        try:
            yield
        finally:
            self._arithmetic = arithmetic

    def _check(self, x: Tensor, y: Tensor) -> None:
        told = telling(self.loss, self._alone(x), y)
        if not told.any():
            return
        x, y = x[told], y[told]
        draws = torch.randn(len(x), generator=torch.Generator().manual_seed(0)).to(x.device)
        logits, expected = weighted_gradients(
            self.model, self.parameters, self.buffers, self.loss, (x, y), draws
        )
        scale = largest(expected)
        self._checked = len(x) if scale > 0 else 0
        if same(self._alone(x), logits):
            found = self._with_usable_copies(x, y, logits)
            wrong = unlike({name: _weighted(rows, draws) for name, rows in found.items()}, expected, scale)
            if wrong := self._beyond_kinks(wrong, found, (x, y)):
                self._give_up(wrong, f"{min(wrong)} is used in a way its layer does not show")
        else:
            self._mixes = True
            self._give_up(set(self.parameters), "the logits of a sample depend on the rest of its batch")
        self._check_slow_path((x, y), draws, expected, scale)

    def _check_slow_path(
        self, samples: tuple[Tensor, Tensor], draws: Tensor, expected: Mapping[str, Tensor], scale: float
    ) -> None:
        """Hold the slow path against the same sums; one sample at a time where it fails vectorised."""

        def wrong() -> set[str]:
            rows: Contributions = {n: [Given(v)] for n, v in self._slowly(self.slow, *samples).items()}
            odd = unlike({n: _weighted(row, draws) for n, row in rows.items()}, expected, scale)
            return self._beyond_kinks(odd, rows, samples)

        if not self.slow or not (odd := wrong()):
            return
        if self._slowly.vectorised:
            self._slowly.one_by_one(f"its gradient of {min(odd)} is wrong then")
            odd = wrong()
        if odd:
            self._warnings.say(
                f"the gradient of {min(odd)} differs between float32 and float64 by more than rounding, so "
                f"its importance may be wrong; give the model and the images in double precision"
            )

    def _beyond_kinks(
        self, names: set[str], found: Contributions, samples: tuple[Tensor, Tensor]
    ) -> set[str]:
        """Return the ``names`` that are wrong; see `wrong_beyond_kinks`."""
        if not names:
            return names

        def rows(number: int) -> dict[str, Tensor | float]:
            return {name: sum(c.rows(number, number + 1)[0] for c in found[name]) for name in names}

        return wrong_beyond_kinks(names, rows, self.model, self.parameters, self.buffers, self.loss, samples)

    def _with_usable_copies(self, x: Tensor, y: Tensor, logits: Tensor) -> Contributions:
        """Return the contributions of `_fast`, without copies that break the model or change its logits."""
        if self._copied:
            try:
                found_logits, _, found = self._fast(x, y)
                if same(found_logits, logits):
                    return found
            except RuntimeError as error:
                if ran_out(error):
                    raise
            self._give_up(set(self._copied), "the model does not take one copy a sample")
        return self._fast(x, y)[2]

    @torch.no_grad()
    def _alone(self, x: Tensor) -> Tensor:
        return self._logits(self.parameters, x)


def _first_of(layers: list[str]) -> str:
    first, *others = dict.fromkeys(layers)
    return f"{first} and {len(others)} more" if others else first


def _weighted(contributions: list[PerSample], draws: Tensor) -> Tensor | float:
    total: Tensor | float = 0.0
    for contribution in contributions:
        rows = contribution.rows(0, contribution.count)
        total = total + torch.tensordot(draws.to(rows.dtype), rows, dims=1)
    return total
