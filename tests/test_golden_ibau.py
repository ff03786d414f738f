"""I-BAU on the published victims, a small part: what it does to them in one round."""

from __future__ import annotations

import pytest
import torch

from theriac.tests import reference_ibau
from theriac.tests.golden_victims import FOLDER, HERE, TARGETS, Halves, halves, victim
from theriac.unlearning.methods.double_backward import cheap_double_backward
from theriac.unlearning.methods.hypergradient import Solver, hypergradient
from theriac.unlearning.methods.ibau import IBAU
from theriac.unlearning.methods.universal_perturbation import Pixels, inner_loss
from theriac.unlearning.methods.unlearner import Known

pytestmark = pytest.mark.skipif(not HERE, reason=f"no published victims ({FOLDER.name}) or CIFAR-10 here")


@pytest.fixture(scope="module")
def data() -> Halves:
    return halves()


def test_the_halves_are_apart(data: Halves) -> None:
    together = torch.cat([data.unlearning.positions, data.scored.positions])
    assert sorted(together.tolist()) == list(range(10_000))


@pytest.mark.parametrize("name", TARGETS)
def test_the_victims_are_poisoned(data: Halves, name: str) -> None:
    truth = data.truth(victim(name), name, 300)
    assert truth["clean_accuracy"] > 0.7  # type: ignore[operator]
    assert truth["asr"] > 0.95  # type: ignore[operator]


def test_one_round_on_500_images_takes_the_backdoor_away(data: Halves) -> None:
    healed = IBAU(rounds=1, batches=20, perturbations=3, probe=100)(
        victim("l2_inv_0_02"), Known(clean=data.first(500))
    )
    truth = data.truth(healed.model, "l2_inv_0_02", 300)
    assert truth["asr"] < 0.4  # type: ignore[operator]
    assert truth["healed_raw"] > 0.35  # type: ignore[operator]


def test_the_hypergradient_of_a_victim_is_the_plain_ones(data: Halves) -> None:
    model = victim("badnets_8_02").requires_grad_(True)
    parameters, batch = tuple(model.parameters()), data.unlearning.batch(torch.arange(20))
    pixels = Pixels.of((0.0,), (1.0,), False, batch[0])
    delta = 0.05 * torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    slow = reference_ibau.plain_fixed_point(
        lambda _, d: inner_loss(model, batch, d, pixels, 0.001),
        lambda _, d: inner_loss(model, batch, 0.5 * d, pixels, 0.0),
        parameters,
        delta,
        5,
        0.1,
    )
    with cheap_double_backward(model):
        found = hypergradient(
            lambda _, d: inner_loss(model, batch, d, pixels, 0.001),
            lambda _, d: inner_loss(model, batch, 0.5 * d, pixels, 0.0),
            parameters,
            delta,
            Solver(),
        )
    one, other = (torch.cat([g.flatten() for g in gradients]) for gradients in (found.gradient, slow))
    assert torch.cosine_similarity(one, other, 0) >= 0.9999
    assert found.indirect_norm > 1e-3 * found.direct_norm
