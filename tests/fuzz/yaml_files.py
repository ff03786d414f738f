"""Sweep files: every kind of slip in one that is valid, and files that are no sweep at all."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

import yaml

from theriac.search.sweep.files import dump_sweep, load_sweep
from theriac.search.training.registry import TRAINED_METHODS

from .cases import ODD, TEXTS, Case, Printed, Run, damaged, misspelt, names, never, shown

BASE = """
name: small
about: for fuzzing
scenario:
  preset: digits
  model: {name: resnet9, width: 0.0625}
  attack: {trigger: {name: badnets, size: 3}, target: 2}
  recipe: {iterations: 40, batch_size: 64}
  held_back: {clean: 100, selection: 50}
  gate: {clean_accuracy: 0.5, asr: 0}
datasets: [digits]
models: [resnet9, {name: small_vgg, width: 0.25}]
attacks: [badnets, sine]
manipulated: [50, 100]
seeds: [0, 1]
shares: [one_shot, 0.5]
methods: [none, eu, ssd, xlf, ft]
granularities: [sample, batch]
searches: [ptn, grid]
settings: {max_steps: 120}
settings_for:
  - when: {granularities: batch}
    set: {batch_size: 16}
exclude:
  - {searches: grid, methods: xlf}
scoring: {steps: 0}
"""
LISTS = {
    "datasets": ["digits", "cifar10", "gtsrb", "imagenette"],
    "methods": ["none", "ssd", "xlf", *TRAINED_METHODS],
    "searches": ["ptn", "grid", "guarded", "fixed"],
    "granularities": ["sample", "batch"],
    "models": ["resnet9", "small_vgg", "preact_resnet18"],
    "attacks": ["badnets", "sine", "blend"],
}
BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
)
TIMES = ("9999-99-99", "2026-01-01 25:00:00", "12:30:45", "2026-01-01")
Tree = dict[str, Any]


def case(rng: Random, folder: Path, run: Run) -> Case:
    """A sweep file, given to `theriac sweep --dry-run`."""
    make = rng.choice(SLIPS)
    return make(rng, folder, run)


def _given(run: Run, folder: Path, text: str | bytes, what: str, **judges: Any) -> Case:
    file = folder / "mine.yaml"
    if isinstance(text, bytes):
        file.write_bytes(text)
    else:
        file.write_text(text, encoding="utf-8", errors="surrogatepass")
    return _dry(run, file, what, **judges)


def _dry(run: Run, file: Path, what: str, *more: str, **judges: Any) -> Case:
    return Case(
        shown=what,
        call=lambda: run("sweep", str(file), "--dry-run", *more),
        right=judges.pop("right", lambda answer: _read_back(answer, file.parent)),
        **judges,
    )


def _read_back(answer: Printed, folder: Path) -> str | None:
    """What was printed must be the sweep itself."""
    if answer.status:
        return f"exit status {answer.status} of a dry run"
    text, _, count = answer.out.rstrip("\n").rpartition("\n")
    again = folder / "again.yaml"
    again.write_text(text + "\n", encoding="utf-8")
    sweep = load_sweep(again)
    if dump_sweep(sweep) != text + "\n":
        return "what is printed reads back to another sweep"
    return None if f"{len(sweep.tasks())} cell" in count else f"{len(sweep.tasks())} cells, but {count}"


def _base(rng: Random) -> Tree:
    presets = sorted(one.name for one in files("theriac.search.sweep").joinpath("presets").iterdir())
    texts = [BASE] * 3 + [
        files("theriac.search.sweep").joinpath("presets", name).read_text()
        for name in presets
        if "digits" in name
    ]
    tree: Tree = yaml.safe_load(rng.choice(texts))
    return tree


def _places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything inside, branches and leaves."""
    pairs = tree.items() if isinstance(tree, Mapping) else enumerate(tree) if isinstance(tree, list) else ()
    return [place for key, value in pairs for place in [(*path, key), *_places(value, (*path, key))]]


def _holder(tree: Any, place: tuple[Any, ...]) -> Any:
    for key in place[:-1]:
        tree = tree[key]
    return tree


def _odd_value(rng: Random, folder: Path, run: Run) -> Case:
    tree, value = _base(rng), copy.deepcopy(rng.choice(ODD))
    place = rng.choice(_places(tree))
    _holder(tree, place)[place[-1]] = value
    return _given(run, folder, _dumped(tree), f"{place} = {shown(value)}")


def _odd_key(rng: Random, folder: Path, run: Run) -> Case:
    tree, key = _base(rng), rng.choice([*TEXTS, 1, None, 2.5, True])
    places = [place for place in _places(tree) if isinstance(_holder(tree, place), dict)]
    place = rng.choice(places)
    _holder(tree, place)[key] = rng.choice(ODD)
    return _given(run, folder, _dumped(tree), f"{place[:-1]} has the key {shown(key)}", right=never)


def _slip_in_key(rng: Random, folder: Path, run: Run) -> Case:
    tree = _base(rng)
    free = ("parameters", "set", "choices")
    places = [
        p for p in _places(tree) if isinstance(p[-1], str) and len(p[-1]) > 3 and not set(free) & set(p[:-1])
    ]
    place = rng.choice(places)
    holder, typo = _holder(tree, place), misspelt(rng, place[-1], list(_holder(tree, place)))
    holder[typo] = holder.pop(place[-1])
    return _given(run, folder, _dumped(tree), f"{place} spelt {typo}", right=never, refused=names(typo))


def _slip_in_name(rng: Random, folder: Path, run: Run) -> Case:
    tree = yaml.safe_load(BASE)
    axis = rng.choice(list(LISTS))
    name = rng.choice([one for one in LISTS[axis] if len(one) > 2])
    typo = misspelt(rng, name, LISTS[axis] + ["lf", "eu", "ft", "fp", "nc", "ga"])
    if rng.random() < 0.3 and axis not in ("datasets", "models"):
        tree["exclude"] = [{axis: typo}]
        return _given(run, folder, _dumped(tree), f"exclude {axis}: {typo}", right=never, refused=names(typo))
    tree.pop("exclude"), tree.pop("settings_for")
    tree[axis] = [*tree[axis][:1], typo]
    return _given(
        run,
        folder,
        _dumped(tree),
        f"{axis}: {typo}",
        right=never,
        refused=names(typo, "did you mean"),
    )


def _dropped(rng: Random, folder: Path, run: Run) -> Case:
    tree = _base(rng)
    place = rng.choice(_places(tree))
    holder = _holder(tree, place)
    del holder[place[-1]]
    return _given(run, folder, _dumped(tree), f"without {place}")


def _twice(rng: Random, folder: Path, run: Run) -> Case:
    lines = BASE.strip().split("\n")
    at = rng.randrange(len(lines))
    lines.insert(at, lines[at])
    return _given(run, folder, "\n".join(lines), f"line {at + 1} twice")


def _bytes(rng: Random, folder: Path, run: Run) -> Case:
    how, data = damaged(rng, BASE.encode())
    return _given(run, folder, data, how)


def _characters(rng: Random, folder: Path, run: Run) -> Case:
    at, extra = (
        rng.randrange(len(BASE)),
        rng.choice("\x00\x07\x1b\t\u202e\u2028\ufeff&*!|>%@`{}[],:#'\"\\?-é🦠"),
    )
    return _given(run, folder, BASE[:at] + extra + BASE[at:], f"{extra!a} at {at}")


def _hostile(rng: Random, folder: Path, run: Run) -> Case:
    depth, digits = rng.choice((200, 1000, 20_000)), rng.choice((10, 5000, 50_000))
    texts = {
        "aliases": f"{BOMB}\nscenario: digits\nseeds: [*a{rng.randrange(3, 11)}]\n",
        "aliases of mappings": _mappings_of_aliases(rng),
        "lists in lists": f"scenario: digits\nseeds: {'[' * depth}{']' * depth}\n",
        "mappings in mappings": f"scenario: digits\nsettings: {'{a: ' * depth}1{'}' * depth}\n",
        "blocks in blocks": "scenario: digits\nsettings:\n"
        + "".join(" " * (n + 1) + "a:\n" for n in range(300)),
        "unclosed": "scenario: digits\nseeds: " + "[" * depth,
        "hexadecimal": f"scenario: digits\nseeds: [0x{'f' * digits}]\n",
        "decimal": f"scenario: digits\nseeds: [{'9' * digits}]\n",
        "sixties": f"scenario: digits\nseeds: [1{':59' * digits}]\n",
        "itself": "scenario: digits\nseeds: &s [*s]\n",
        "itself as a key": "scenario: digits\n? &k {*k : 1}\n: 2\n",
        "a list as a key": "scenario: digits\n? [a, b]\n: 2\n",
        "merged": "scenario: digits\n<<: [1, 2]\n",
        "merged itself": "a: &a\n  <<: *a\nscenario: digits\n",
        "python": "scenario: !!python/object/apply:os.system ['touch pwned']\n",
        "a tag": "scenario: !mine digits\n",
        "a time": f"scenario: digits\nseeds: [{rng.choice(TIMES)}]\n",
        "bytes": "scenario: digits\nabout: !!binary '===='\n",
        "documents": f"{BASE}\n---\n{BASE}",
        "a set": "scenario: digits\nseeds: !!set {1, 2}\n",
        "not finite": f"scenario: digits\nshares: [{rng.choice(('.inf', '-.inf', '.nan', '1e999'))}]\n",
        "a long scalar": f"name: {'a' * 3_000_000}\nscenario: digits\n",
        "many seeds": f"scenario: digits\nseeds: {list(range(rng.choice((1000, 300_000))))}\n",
        "huge products": "scenario: digits\n" + _axes(400),
        "many settings": f"scenario: digits\nsettings: {[{'max_steps': n + 1} for n in range(20_000)]}\n",
        "a string": rng.choice(TEXTS) or "x",
        "a number": "1",
        "comments": "# nothing\n",
    }
    name = rng.choice(list(texts))
    judges = {"right": never} if name in ("python", "a tag") else {}
    return _given(run, folder, texts[name], name, **judges)


def _axes(count: int) -> str:
    numbers = list(range(1, count + 1))
    shares = [one / 1000 for one in numbers]
    return f"seeds: {numbers}\nmanipulated: {numbers}\nshares: {shares}\nmethods: [ssd, lf, xlf]\n"


def _mappings_of_aliases(rng: Random) -> str:
    levels = rng.choice((4, 9, 30))
    lines = ["a0: &a0 {x: 1, y: 2}"]
    lines += [f"a{n}: &a{n} {{p: *a{n - 1}, q: *a{n - 1}, r: *a{n - 1}}}" for n in range(1, levels)]
    return "\n".join([*lines, "scenario: digits", f"settings: *a{levels - 1}"])


def _encoded(rng: Random, folder: Path, run: Run) -> Case:
    name = rng.choice(("utf-16", "utf-32", "utf-8-sig", "latin-1", "utf-7", "cp1252"))
    data = BASE.replace("for fuzzing", "für Fuzzing").encode(name)
    right = {"right": lambda answer: _read_back(answer, folder)} if name == "utf-8-sig" else {}
    return _given(run, folder, data, f"encoded as {name}", **right)


def _no_file(rng: Random, folder: Path, run: Run) -> Case:
    file = folder / rng.choice(("mine.yaml", "a\x1b[2Jb.yaml", "a\nb.yaml", "\u202e.yaml", "é.yml"))
    what = rng.choice(("pipe", "folder", "zero", "random", "loop", "dangling", "nothing", "socket"))
    if what == "pipe":
        os.mkfifo(file)
    if what == "folder":
        file.mkdir()
    if what in ("zero", "random", "loop", "dangling"):
        targets = {"zero": "/dev/zero", "random": "/dev/urandom", "loop": file.name, "dangling": "gone"}
        file.symlink_to(targets[what])
    if what == "socket":
        os.mknod(file, 0o140600)
    return _dry(run, file, f"{what} {file.name!a}", right=never)


def _overrides(rng: Random, folder: Path, run: Run) -> Case:
    place = ".".join(map(str, rng.choice(_places(yaml.safe_load(BASE)))))
    path = rng.choice((place, place, place + ".x", "", ".", "a..b", "seeds.0", "x" * 3000, rng.choice(TEXTS)))
    value = rng.choice((shown(rng.choice(ODD), 400), *TEXTS, "[", "{a: ", "*x", "&a [*a]", "!!python/none x"))
    assignment = rng.choice((f"{path}={value}", f"{path}={value}", path, f"{path}==", f" {path} = {value} "))
    (folder / "mine.yaml").write_text(BASE)
    return _dry(run, folder / "mine.yaml", f"--set {shown(assignment)}", "--set", assignment)


def _untouched(rng: Random, folder: Path, run: Run) -> Case:
    tree = _base(rng)
    text = rng.choice(("é", "\x1b[31mred", "a\nb", "\u202eabc", "[red]x[/]", "plain"))
    tree["about" if rng.random() < 0.5 else "name"] = text
    return _given(run, folder, _dumped(tree), f"valid, and called {text!a}", refused=lambda message: message)


def _too_many(rng: Random, folder: Path, run: Run) -> Case:
    """More than there is: what is known without training must be said before it."""
    tree: Tree = yaml.safe_load("{scenario: digits, methods: [none, xlf]}")
    change: Tree = rng.choice(
        (
            {"manipulated": [rng.randrange(1438, 10**6)]},
            {"scenario": {"preset": "digits", "manipulated": rng.randrange(1438, 10**6)}},
            {"scenario": {"preset": "digits", "held_back": {"clean": rng.randrange(360, 10**6)}}},
            {
                "scenario": {
                    "preset": "digits",
                    "attack": {"trigger": "badnets", "target": rng.randrange(10, 10**6)},
                }
            },
            {"seeds": [rng.choice((2**63, 2**64, 10**30))]},
            {"scenario": {"preset": "digits", "seed": 2**63}},
        )
    )
    return _given(run, folder, _dumped({**tree, **change}), f"too many: {change}", right=never)


def _dumped(tree: Any) -> str:
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


SLIPS: tuple[Callable[[Random, Path, Run], Case], ...] = (
    *[_odd_value] * 5,
    _odd_key,
    *[_slip_in_key] * 2,
    *[_slip_in_name] * 3,
    _dropped,
    _twice,
    *[_bytes] * 2,
    *[_characters] * 2,
    *[_hostile] * 4,
    _encoded,
    *[_no_file] * 2,
    *[_overrides] * 4,
    _untouched,
    *[_too_many] * 2,
)
