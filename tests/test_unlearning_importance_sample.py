"""How exactly importances of many samples add up."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from theriac.tests.importance_models import CLASSES, data, make, randomise
from theriac.unlearning.importance.estimate import Importance, estimate_importance


def tiny_sums(x: Tensor, y: Tensor, dtype: torch.dtype) -> Importance:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = randomise(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, CLASSES)))
    return estimate_importance(model.to(dtype), zip(x.to(dtype).split(5000), y.split(5000), strict=True))


def test_many_samples_lose_no_digits() -> None:
    """Well inside the bound of 3.1e-5 that the docstring of sample_importance states."""
    torch.manual_seed(2)
    x, y = torch.randn(20_000, 3) * torch.logspace(-2, 1, 20_000)[:, None], torch.zeros(20_000).long()
    exact, found = tiny_sums(x, y, torch.float64), tiny_sums(x, y, torch.float32)
    part = tiny_sums(x[::7], y[::7], torch.float32)
    kept = torch.arange(len(x)) % 7 != 0
    rest, direct = found - part, tiny_sums(x[kept], y[kept], torch.float32)
    assert rest.count == direct.count
    parts = [tiny_sums(x[i::16], y[i::16], torch.float32) for i in range(16)]
    orders = [torch.randperm(16).tolist() for _ in range(3)]
    merged = [sum((parts[i] for i in order[1:]), start=parts[order[0]]) for order in orders]
    for name, value in exact.total.items():
        assert ((found.total[name] - value).abs() <= 2e-6 * value).all()
        assert ((rest.total[name] - direct.total[name]).abs() <= 2e-6 * value).all()
        for shards in merged:
            torch.testing.assert_close(shards.total[name], merged[0].total[name], rtol=1e-14, atol=0)
            assert ((shards.total[name] - value).abs() <= 2e-6 * value).all()


def test_nested_prefixes_build_on_each_other() -> None:
    model, batches = make("resnet9"), data(12)
    so_far = estimate_importance(model, batches[:1])
    for used in (2, 3):
        so_far = so_far + estimate_importance(model, batches[used - 1 : used])
        direct = estimate_importance(model, batches[:used])
        assert all(torch.allclose(so_far.total[n], v, rtol=1e-12, atol=0) for n, v in direct.total.items())
