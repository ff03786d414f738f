"""Arguments of `theriac.heal`: odd models, data and settings, and all right ways to pass data."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import theriac
from theriac.search.settings import HealSettings
from theriac.search.training.settings import TuneSettings
from theriac.tests.poisoned import poisoned_digits

from .cases import ODD, TEXTS, Case, Run, misspelt, names, never, shown, unwanted
from .heal_models import models

FOUND, REST = 12, 150
STATUSES = ("stopped", "done", "no_stop", "collapsed", "failed", "not_healed")
Pair = tuple[Tensor, Tensor]
SHORT: dict[str, dict[str, Any]] = {
    "xlf": {"max_steps": 40},
    "ssd": {"search": "grid", "alphas": (1.0, 10.0), "relative_lambdas": (1.0,), "held_out": 50},
    "lf": {"search": "tpe", "samples": 2, "held_out": 50},
    "cf": {"search": "fixed", "parameters": {"iterations": 2, "augmentation": "none"}},
    "ft": {"search": "fixed", "parameters": {"epochs": 1, "augmentation": "none"}},
    "ga": {"search": "fixed", "parameters": {"steps": 2}},
    "rga": {"search": "fixed", "parameters": {"steps": 2}},
}


@cache
def _sets() -> tuple[Pair, Pair, Pair]:
    world = poisoned_digits()
    (fx, fy), (rx, ry), (cx, cy) = world.found, world.rest, world.clean
    return (fx[:FOUND], fy[:FOUND]), (rx[-REST:], ry[-REST:]), (cx[:60], cy[:60])


class World:
    """Arguments that are right, as copies, and whether they are still what they were."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.model: Any = copy.deepcopy(poisoned_digits().model)
        sets = [tuple(part.clone() for part in pair) for pair in _sets()]
        self.forget, self.retain, self.clean = sets
        self.options: dict[str, Any] = copy.deepcopy(SHORT[method])
        if method == "ft":
            self.options["clean"] = self.clean

    def heal(self) -> Any:
        """The call."""
        return theriac.heal(self.model, self.forget, self.retain, self.method, **self.options)

    def case(self, what: str, must: str = "either", right: Callable[[Any], str | None] | None = None) -> Case:
        """``must`` is "right", "refuse" or "either"."""
        judges: dict[str, Any] = {"right": never if must == "refuse" else right or self.sound}
        if must == "right":
            judges["refused"] = unwanted
        return Case(shown=f"{self.method}: {what}", call=self.heal, **judges)

    def sound(self, healing: Any) -> str | None:
        """A known status, finite weights, and nothing of the caller's changed."""
        if healing.status not in STATUSES:
            return f"status {healing.status!r}"
        if not all(torch.isfinite(p).all() for p in healing.model.parameters()):
            return "weights that are not finite"
        if isinstance(self.model, nn.Sequential) and not _same(self.model, poisoned_digits().model):
            return "the caller's model was changed"
        return None

    def reference(self, healing: Any) -> str | None:
        """The same data in another form heal alike."""
        wrong = self.sound(healing)
        if wrong or self.method in ("cf", "ga", "rga", "ft"):
            return wrong
        expected = _reference(self.method)
        # other batches are rounded otherwise; no alpha is 0
        near = math.isclose(healing.alpha or 0.0, expected[1] or 0.0, rel_tol=1e-5)
        same = healing.status == expected[0] and near
        return None if same else f"{(healing.status, healing.alpha)}, but {expected} from tensors"


def _same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=False)
    return all(a.dtype != b.dtype or torch.equal(a, b) for a, b in pairs)


@cache
def _reference(method: str) -> tuple[str, float | None]:
    found = World(method).heal()
    return found.status, found.alpha


def prepare() -> None:
    """Train the victim, and heal it once by each method: later calls import nothing."""
    for method in SHORT:
        _reference(method)


def case(rng: Random, folder: Path, run: Run) -> Case:
    """A call of `heal` with one thing odd about it."""
    return rng.choice(TWISTS)(rng, World(rng.choice(("xlf", "xlf", *SHORT))))


class Mapped(Dataset[Any]):
    """Samples through a function."""

    def __init__(self, pair: Pair, function: Callable[[Tensor, int], Any]) -> None:
        self._pair, self._function = pair, function

    def __len__(self) -> int:
        return len(self._pair[1])

    def __getitem__(self, index: int) -> Any:
        x, y = self._pair
        return self._function(x[index], int(y[index]))


class Streamed(IterableDataset[Any]):
    """Samples one after the other, for ever or to the end."""

    def __init__(self, pair: Pair, endless: bool) -> None:
        self._pair, self._endless = pair, endless

    def __iter__(self) -> Any:
        while True:
            yield from ((x, int(y)) for x, y in zip(*self._pair, strict=True))
            if not self._endless:
                return


def _forms(rng: Random) -> dict[str, tuple[str, Callable[[Any], Any]]]:
    """Ways to pass a set: "right" ones mean the same, the others are "either"."""
    size = rng.choice((1, 7, 64))
    return {
        "tensors": ("right", lambda pair: pair),
        "list of pairs": ("right", lambda pair: list(zip(*pair, strict=True))),
        "list of pairs of int": ("right", lambda pair: [(x, int(y)) for x, y in zip(*pair, strict=True)]),
        "TensorDataset": ("right", lambda pair: TensorDataset(*pair)),
        "Dataset": ("right", lambda pair: Mapped(pair, lambda x, y: (x, y))),
        "DataLoader": ("right", lambda pair: DataLoader(TensorDataset(*pair), batch_size=size)),
        "shuffled": ("either", lambda pair: DataLoader(TensorDataset(*pair), batch_size=size, shuffle=True)),
        "drop_last": (
            "either",
            lambda pair: DataLoader(TensorDataset(*pair), batch_size=size, drop_last=True),
        ),
        "batch_size=None": ("either", lambda pair: DataLoader(TensorDataset(*pair), batch_size=None)),
        "batch_sampler": (
            "either",
            lambda pair: DataLoader(TensorDataset(*pair), batch_sampler=[[0, 1], [1, 0]]),
        ),
        "list of batches": (
            "right",
            lambda pair: list(zip(pair[0].split(size), pair[1].split(size), strict=True)),
        ),
        "list in a list": ("right", lambda pair: [[x, y] for x, y in zip(*pair, strict=True)]),
        "arrays": ("either", lambda pair: (pair[0].numpy(), pair[1].numpy())),
        "list of arrays": ("either", lambda pair: [(x.numpy(), int(y)) for x, y in zip(*pair, strict=True)]),
        "mappings": (
            "either",
            lambda pair: [{"image": x, "label": int(y)} for x, y in zip(*pair, strict=True)],
        ),
        "images": ("either", lambda pair: Mapped(pair, lambda x, y: (_image(x), y))),
        "texts": ("either", lambda pair: Mapped(pair, lambda x, y: (x, str(y)))),
        "generator": ("either", lambda pair: zip(*pair, strict=True)),
        "a stream": ("either", lambda pair: Streamed(pair, False)),
        "an endless stream": ("either", lambda pair: Streamed(pair, True)),
        "a loader of an endless stream": (
            "either",
            lambda pair: DataLoader(Streamed(pair, True), batch_size=size),
        ),
        "noisy at every reading": ("either", lambda pair: Mapped(pair, lambda x, y: (x + torch.rand(()), y))),
        "triples": ("either", lambda pair: [(x, y, 0) for x, y in zip(*pair, strict=True)]),
        "failing": ("either", lambda pair: Mapped(pair, _fails)),
    }


def _image(x: Tensor) -> Any:
    return Image.fromarray((x[0] * 255).byte().numpy())


def _fails(x: Tensor, y: int) -> Any:
    raise KeyError("\x1b[2J no such\nsample")


def _form(rng: Random, world: World) -> Case:
    forms = _forms(rng)
    name = rng.choice([*forms, *[one for one, (must, _) in forms.items() if must == "right"]])
    must, make = forms[name]
    both = rng.random() < 0.5
    world.forget = make(world.forget) if both or rng.random() < 0.5 else world.forget
    world.retain = make(world.retain) if both or world.forget is not None else world.retain
    return world.case(f"data as {name}", must, world.reference if must == "right" else None)


def _values(rng: Random, world: World) -> Case:
    """Images of other types, shapes and values."""
    changes: dict[str, Callable[[Tensor], Any]] = {
        "uint8": lambda x: (x * 255).byte(),
        "bool": lambda x: x > 0.5,
        "int64": lambda x: x.long(),
        "complex": lambda x: x.to(torch.complex64),
        "float64": lambda x: x.double(),
        "float16": lambda x: x.half(),
        "NaN": lambda x: torch.where(x > 0.9, float("nan"), x),
        "infinite": lambda x: torch.where(x > 0.9, float("inf"), x),
        "three channels": lambda x: x.repeat(1, 3, 1, 1),
        "no channels": lambda x: x[:, 0],
        "flat": lambda x: x.flatten(1),
        "channels last": lambda x: x.permute(0, 2, 3, 1),
        "larger": lambda x: x.repeat(1, 1, 2, 2),
        "huge values": lambda x: x * 1e30,
        "0 to 255": lambda x: x * 255,
        "normalised": lambda x: (x - 0.3) / 0.3,
        "sparse": lambda x: x.to_sparse(),
        "on meta": lambda x: x.to("meta"),
        "no pixels": lambda x: x[..., :0],
        "needs gradients": lambda x: x.clone().requires_grad_(),
        "not contiguous": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    }
    name = rng.choice(list(changes))
    which = rng.choice(("forget", "retain", "both"))
    for place in ("forget", "retain") if which == "both" else (which,):
        x, y = getattr(world, place)
        setattr(world, place, (changes[name](x), y))
    refused = name in ("NaN", "infinite", "three channels", "larger", "complex", "no pixels", "on meta")
    return world.case(f"images of {which}: {name}", "refuse" if refused else "either")


def _labels(rng: Random, world: World) -> Case:
    changes: dict[str, Callable[[Tensor], Any]] = {
        "int32": lambda y: y.int(),
        "uint8": lambda y: y.byte(),
        "floats": lambda y: y.float(),
        "one-hot": lambda y: nn.functional.one_hot(y, 10),
        "column": lambda y: y[:, None],
        "too great": lambda y: y + 10,
        "negative": lambda y: -y - 1,
        "far": lambda y: y + 2**40,
        "bool": lambda y: y > 4,
        "short": lambda y: y[:-1],
        "empty": lambda y: y[:0],
        "list": lambda y: y.tolist(),
        "array": lambda y: y.numpy(),
        "texts": lambda y: [str(one) for one in y.tolist()],
        "None": lambda y: None,
        "shifted": lambda y: (y + 1) % 10,
    }
    name = rng.choice(list(changes))
    which = rng.choice(("forget", "retain", "both", "clean"))
    if which == "clean":
        world = World("ft")
        world.options["clean"] = (world.clean[0], changes[name](world.clean[1]))
    for place in {"both": ("forget", "retain"), "clean": ()}.get(which, (which,)):
        x, y = getattr(world, place)
        setattr(world, place, (x, changes[name](y)))
    refused = name in ("one-hot", "too great", "negative", "far", "short", "texts", "None")
    return world.case(f"labels of {which}: {name}", "refuse" if refused else "either")


def _odd_data(rng: Random, world: World) -> Case:
    odd = [*ODD, world.model, nn.Linear, object(), Path("x"), b"x", torch.zeros(3), (torch.zeros(3),), {1: 2}]
    odd += [
        np.zeros((3, 1, 8, 8)),
        (None, None),
        [torch.zeros(1, 8, 8)],
        [None],
        len,
        DataLoader,
        range(3),
        ("a", "b"),
    ]
    which, value = rng.choice(("forget", "retain", "clean", "base")), rng.choice(odd)
    if which in ("forget", "retain"):
        setattr(world, which, value)
        return world.case(f"{which} = {shown(type(value))} {shown(value, 40)}", "refuse")
    world = World(rng.choice(("ft", "rga")))
    world.options[which] = value
    return world.case(f"{which} = {shown(value, 60)}")


def _model(rng: Random, world: World) -> Case:
    kinds = models()
    name = rng.choice(list(kinds))
    must, make = kinds[name]
    world.model = make(world.model)
    before = (world.forget[0].clone(), world.retain[0].clone())

    def right(healing: Any) -> str | None:
        if not (torch.equal(before[0], world.forget[0]) and torch.equal(before[1], world.retain[0])):
            return "the caller's images were changed"
        return None if healing.status in STATUSES else f"status {healing.status}"

    return world.case(f"model: {name}", must, right)


def _odd_model(rng: Random, world: World) -> Case:
    world.model = rng.choice(ODD)
    return world.case(f"model = {shown(world.model, 60)}", "refuse")


def _setting(rng: Random, world: World) -> Case:
    trains = "parameters" in world.options
    fields = TuneSettings.model_fields if trains else HealSettings.model_fields
    free = ("parameters", "samples", "together", "space", "max_steps", "method")
    name, value = rng.choice([one for one in fields if one not in free]), rng.choice(ODD)
    world.options[name] = value
    return world.case(f"{name} = {shown(value, 60)}")


def _parameter(rng: Random, world: World) -> Case:
    world = World(rng.choice(("cf", "ga", "rga", "ft")))
    name = rng.choice((*world.options["parameters"], "learning_rate", "lr", "x", *TEXTS[:4], "\x1b[2J"))
    small = [one for one in ODD if not isinstance(one, int) or isinstance(one, bool) or one <= 2]
    world.options["parameters"] = {**world.options["parameters"], name: rng.choice(small)}
    return world.case(f"parameters {name!a} = {shown(world.options['parameters'][name], 60)}")


def _slip(rng: Random, world: World) -> Case:
    known = sorted({*HealSettings.model_fields, "mean", "std", "seed", "progress", "clean", "base"})
    name = rng.choice([one for one in known if len(one) > 4])
    typo = misspelt(rng, name, known)
    world.options[typo] = 1
    return Case(shown=f"{typo}=1", call=world.heal, right=never, refused=names(typo))


def _method(rng: Random, world: World) -> Case:
    world.method = rng.choice((*ODD, "XLF", "xfl", "eu", "none", "potion"))
    return world.case(f"method = {shown(world.method, 60)}", "refuse")


def _argument(rng: Random, world: World) -> Case:
    name = rng.choice(("seed", "mean", "std", "mean and std"))
    value = rng.choice([*ODD, (0.5,), (0.5, 0.5), [0.1] * 3, torch.zeros(1), np.zeros(1)])
    for one in name.split(" and "):
        world.options[one] = value
    return world.case(f"{name} = {shown(value, 60)}")


def _sizes(rng: Random, world: World) -> Case:
    count = rng.choice((0, 1, FOUND))
    x, y = world.forget
    world.forget = (x[:count], y[:count])
    kept = rng.choice((0, 1, count, 5, REST))
    world.retain = (world.retain[0][:kept], world.retain[1][:kept])
    return world.case(f"{count} found of {kept}", "refuse" if count == 0 or kept <= count else "either")


TWISTS: tuple[Callable[[Random, World], Case], ...] = (
    *[_form] * 5,
    *[_values] * 3,
    *[_labels] * 3,
    *[_odd_data] * 3,
    *[_model] * 5,
    _odd_model,
    *[_setting] * 4,
    *[_parameter] * 2,
    _slip,
    _method,
    *[_argument] * 2,
    _sizes,
)
