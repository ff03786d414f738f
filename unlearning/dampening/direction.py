"""In which direction dampening a weight moves what a model believes."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ...datasets.sources import check_labels
from ...errors import BadInput
from ..inference import check_batch, check_logits, check_targets, evaluating


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the label's logit less the largest other one, [N]; above 0 where the label is predicted."""
    own = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return own - others.amax(1)


def centred(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the label's logit less the mean of all, [N], which a constant added to all leaves alone.

    Args:
        logits: [N, K].
        labels: int64 [N], in [0, K).
    """
    return logits.gather(1, labels[:, None]).squeeze(1) - logits.mean(1)


def falling(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Return how fast the mean margin falls as each weight is dampened, to first order.

    That is theta_i * d (mean margin) / d theta_i, in logits per full dampening: positive where dampening the
    weight makes the model doubt the labels.

    Args:
        model: left as it is; its weights may share one buffer.
        batches: (x, y), one sample at least.

    Returns:
        Name -> tensor like the parameter, on its device.

    Raises:
        BadInput: no samples, or inputs and logits that `predict` would refuse.
    """
    parameters = dict(model.named_parameters())
    weights = next(iter(parameters.values()), None)
    if weights is None:
        raise BadInput("the model has no parameters; give a trained classifier")
    wanted = {name: parameter.requires_grad for name, parameter in parameters.items()}
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    count = 0
    model.requires_grad_(True)
    try:
        with evaluating(model), torch.enable_grad():
            for x, y in batches:
                if not len(x):
                    continue
                check_batch(x, "images")
                labels = check_targets(y, len(x))
                x = x.to(weights if x.is_floating_point() else weights.device)
                logits = check_logits(model(x), len(x))
                check_labels(labels.cpu(), logits.shape[1])
                labels = labels.to(weights.device)
                found = torch.autograd.grad(
                    margin(logits, labels).sum(), list(parameters.values()), allow_unused=True
                )
                for own, gradient in zip(total.values(), found, strict=True):
                    if gradient is not None:
                        own += gradient
                count += len(x)
    finally:
        for name, parameter in parameters.items():
            parameter.requires_grad_(wanted[name])
    if not count:
        raise BadInput("no samples to find a direction from; give at least one")
    return {name: own * parameters[name].detach() / count for name, own in total.items()}
