"""Command lines: every command and option, with values of every sort; work itself is not begun."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import torch
from PIL import Image
from safetensors.torch import save_file

from theriac.cluster import commands, run_sweep as sweeping
from theriac.cluster.cli import app
from theriac.cluster.commands import doctor, heal as healing
from theriac.unlearning.models.build import ModelSpec, create_model

from .cases import NUMBERS, TEXTS, Accepted, Case, Printed, Run, misspelt, names, never, shown

COMMANDS = ("quickstart", "heal", "sweep", "plan", "status", "plot", "table", "list", "doctor")
WORDS: tuple[str, ...] = (
    "auto",
    "cpu",
    "cuda",
    "cuda:7",
    "mps",
    "meta",
    "cuda:x",
    "xla",
    "ptn",
    "grid",
    "tpe",
    "guarded",
    "fixed",
)
WORDS += (
    "ssd",
    "lf",
    "xlf",
    "cf",
    "rga",
    "ibau",
    "sample",
    "batch",
    "all",
    "whole",
    "resnet9",
    "vit_tiny",
    "digits",
)
WORDS += (
    "latex",
    "csv",
    "attacks",
    "sweeps",
    "plain",
    "bfloat16",
    "learning_rate=0.1",
    "seeds=[0]",
    "a=b=c",
    "=",
)
PLACES: tuple[str, ...] = (
    "found",
    "rest",
    "weights.safetensors",
    "nowhere",
    "",
    ".",
    "/",
    "/dev/null",
    "/dev/zero",
    "/proc/self/mem",
)
PLACES += (
    "ftp://host/x",
    "file:///nowhere",
    "s4://x",
    "http://",
    "a:b",
    "~nobody/x",
    "x" * 300,
    "found/0/0.png",
)
PLACES += (
    "127.0.0.1:1",
    "\x1b[31mred",
    "a\nb",
    "\u202egnp",
    "\udcff",
    "--",
    "-",
    "é/ü",
    "fig.pdf",
    "sheet.xyz",
)


def case(rng: Random, folder: Path, run: Run) -> Case:
    """A command and its options."""
    make = rng.choice(SHAPES)
    words, judges = make(rng)
    _files(folder)
    return Case(shown=shown(words, 300), call=lambda: _run(run, words), **judges)


def _run(run: Run, words: list[str]) -> Printed:
    """With all that takes minutes or goes out of this process replaced by an exception."""
    with (
        patch.object(sweeping, "ray_session", _started),
        patch.object(sweeping, "measure_costs", _started),
        patch.object(healing, "heal", _started),
        patch.object(doctor, "start_local_ray", lambda: doctor.Check("local ray", True, "not tried")),
        patch.object(commands, "draw_attacks", _started),
    ):
        return run(*words)


def _started(*_: object, **__: object) -> Any:
    raise Accepted


@cache
def _weights() -> dict[str, torch.Tensor]:
    model = create_model(ModelSpec(name="resnet9", width=0.0625), num_classes=2, shape=(1, 12, 12))
    return dict(model.state_dict())


def _files(folder: Path) -> None:
    for name, count in (("found", 1), ("rest", 2)):
        for label in ("0", "1"):
            (folder / name / label).mkdir(parents=True)
            for number in range(count):
                Image.new("L", (12, 12), 30 * number).save(folder / name / label / f"{number}.png")
    save_file(_weights(), folder / "weights.safetensors")


@cache
def options(name: str) -> tuple[str, ...]:
    """The options of a command, as the parser knows them."""
    found = [one for argument in app[name].assemble_argument_collection() for one in argument.names]
    return tuple(
        sorted({one for one in found if one.startswith("--") and not one.startswith(("--no-", "--empty-"))})
    )


def _base(command: str) -> list[str]:
    """What a command cannot do without."""
    heal = ["heal", "--weights", "weights.safetensors", "--forget", "found", "--retain", "rest"]
    heal += ["--width", "0.0625", "--channels", "1"]
    needed = {"heal": heal, "sweep": ["sweep", "quickstart"], "plan": ["plan", "quickstart"]}
    needed |= {name: [name, "results"] for name in ("status", "plot", "table")}
    return list(needed.get(command, [command]))


def _value(rng: Random) -> str:
    pool = rng.choice((WORDS, PLACES, TEXTS, NUMBERS))
    return str(rng.choice(pool)).replace("\x00", "")


Made = tuple[list[str], dict[str, Any]]


def _with_options(rng: Random) -> Made:
    command = rng.choice(COMMANDS)
    words = _base(command)
    for _ in range(rng.randrange(1, 4)):
        option, value = rng.choice(options(command)), _value(rng)
        words += rng.choice(([option, value], [option, value], [f"{option}={value}"], [option]))
    return words, {}


def _one_value(rng: Random) -> Made:
    """One option of `heal` or `sweep`, which have most, with one odd value."""
    command = rng.choice(("heal", "heal", "sweep", "plan", "quickstart"))
    option = rng.choice(options(command))
    return [*_base(command), option, _value(rng)], {}


def _slip_in_option(rng: Random) -> Made:
    command = rng.choice([one for one in COMMANDS if one != "plot"])  # whose only option is short
    option = rng.choice([one for one in options(command) if len(one) > 5])
    typo = "--" + misspelt(
        rng, option.removeprefix("--"), [one.removeprefix("--") for one in options(command)]
    )
    words = [word for word in _base(command) if word != option]
    whole = rng.random() < 0.5
    if not whole:  # what is needed is missing, too: the unknown one must be named first
        words = words[:1] + [
            word
            for pair in zip(words[1::2], words[2::2], strict=False)
            for word in pair
            if rng.random() < 0.5
        ]
    words += [typo, "x"] if rng.random() < 0.6 else [f"{typo}=x"]
    return words, {"right": never, "refused": names(typo, option)}


def _slip_in_command(rng: Random) -> Made:
    command = rng.choice(COMMANDS)
    typo = misspelt(rng, command, COMMANDS)
    return [typo, *_base(command)[1:]], {"right": never, "refused": names(typo, command)}


def _nothing_after(rng: Random) -> Made:
    command = rng.choice(COMMANDS)
    return [*_base(command), rng.choice(options(command))], {}


def _any_words(rng: Random) -> Made:
    words = [_value(rng) for _ in range(rng.randrange(1, 5))]
    first = rng.choice((*COMMANDS, *COMMANDS, _value(rng)))
    return [first, *words], {}


def _in_excess(rng: Random) -> Made:
    command = rng.choice(COMMANDS)
    extra = rng.choice((["x"], ["x"] * 5000, ["--", "x"], ["--", "--help"], ["x", "--json=maybe"]))
    return [*_base(command), *extra], {}


def _lists(rng: Random) -> Made:
    option = rng.choice(
        ("--alphas", "--relative-lambdas", "--mean", "--std", "--alpha-range", "--relative-lambda-range")
    )
    values = [_value(rng) for _ in range(rng.randrange(5))]
    return [*_base("heal"), option, *values], {}


def _helped(rng: Random) -> Made:
    return [rng.choice(COMMANDS), rng.choice(("--help", "-h"))], {"refused": lambda message: message}


SHAPES: tuple[Callable[[Random], Made], ...] = (
    *[_with_options] * 3,
    *[_one_value] * 5,
    *[_slip_in_option] * 3,
    _slip_in_command,
    _nothing_after,
    *[_any_words] * 2,
    _in_excess,
    _lists,
    _helped,
)
