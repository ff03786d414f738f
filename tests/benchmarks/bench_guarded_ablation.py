"""What each part of the guarded search earns: one is left out or changed at a time.

    python tests/benchmarks/bench_guarded_ablation.py --store FOLDER --out guarded-ablation

Victims: "digits" stands for the preset digits, |S_m| 100 and 200, BadNets (target 0), sine (target 5) and
moving (target 3), each seed; any other is attack:|S_m|:seed:target on CIFAR-10, as in `bench_guarded`. Scores
on all test images; a search without a stop counts with the victim's. What is in the Parquet file is not
computed again, so the script can be stopped at any time.
"""

from __future__ import annotations

import argparse
import copy
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import theriac
from theriac.datasets.attacks import Attack
from theriac.datasets.augmentation import Augmentation, augment
from theriac.datasets.poisoning import PoisonedData, Share
from theriac.datasets.seeding import seeded_generator
from theriac.datasets.triggers import parse_trigger
from theriac.search.dampening_run import Progress, silent
from theriac.search.given.batches import Batches, as_batches, random_part
from theriac.search.guarded import (
    groups as suspicion,
    machine as guarded,
    problem as guarded_problem,
    ranking,
)
from theriac.search.guarded.groups import Suspicion
from theriac.search.guarded.ranking import Accused, ImportancePair
from theriac.search.guarded.responses import look_for_suspects
from theriac.search.importance_for import importance_for
from theriac.search.settings import HealSettings
from theriac.search.store.artifacts import ArtifactStore
from theriac.search.store.row_origin import provenance
from theriac.search.sweep import dampening_cell as treatment
from theriac.search.sweep.cells import run_cell
from theriac.search.sweep.scenario import PRESETS, Cell, Scenario, Scoring
from theriac.search.sweep.victim_bench import Experiment, Part
from theriac.search.sweep.victim_importances import TimedPair, VictimImportances
from theriac.search.threshold import NothingToUnlearn
from theriac.search.truth import Truth, measure_truth
from theriac.tests.benchmarks.bench_guarded import scenario as cifar10
from theriac.unlearning.importance.estimate import Importance
from theriac.unlearning.inference import predict

Row = dict[str, Any]
Changed = Callable[[Experiment], AbstractContextManager[Any]]
Then = Callable[[nn.Module, PoisonedData, Cell], nn.Module]
SHARES: tuple[Share, ...] = ("one_shot", 0.1, 1.0)
ATTACKS = (("badnets", 0), ("sine", 5), ("moving", 3))
USUAL: dict[str, dict[str, Any]] = {"digits": {}, "cifar10": {"precision": "bfloat16", "compared": 5000}}
COPIES = 4
"""Augmented copies of each sample of S_f."""
MOST_REESTIMATED = 5000
"""Images of retain, at most, that BatchNorm statistics are taken from."""
HEAD = ("data", "variant", "share", "n", "no stop", "damage", "worst", "ASR %", "healed_raw %")
GROUP = ("dataset", "variant", "share")
KEPT = (
    *("key", "scenario", "variant", "dataset", "attack", "target", "manipulated", "seed", "share", "status"),
    *("damage", "asr", "healed_raw", "clean_accuracy", "asr_before", "healed_raw_before", "dampened"),
    *("steps", "harm", "suspects", "left_out", "settings"),
)


def _as_stopped(model: nn.Module, data: PoisonedData, cell: Cell) -> nn.Module:
    return model


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One change of the search.

    Attributes:
        settings: in place of the usual ones.
        changed: what is something else while the search runs.
        then: gives the model that is scored, from a copy of that of the stop.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    changed: Changed = nullcontext
    then: Then = _as_stopped


def _replaced(*changes: tuple[Any, str, Any]) -> Changed:
    """Other values for names of modules."""

    @contextmanager
    def changed(experiment: Experiment) -> Iterator[None]:
        with ExitStack() as stack:
            for change in changes:
                stack.enter_context(patch.object(*change))
            yield

    return changed


def _trusting(*given: Any) -> Suspicion:
    """S_f alone is poison: nothing in retain is suspected, nothing in S_f doubted."""
    seen = look_for_suspects(*given)
    nothing, everything = torch.zeros_like(seen.retain), torch.ones_like(seen.forget)
    return Suspicion(retain=nothing, forget=everything, separation=seen.separation, apart=True)


def _nobody_else(victim: nn.Module, known: Any, rest: Batches, *others: Any) -> Tensor:
    return torch.zeros(len(rest), dtype=torch.bool)


_ranking = ranking._ranking
_rank = ranking.rank
_importances_of = VictimImportances.of


def _of_all_classes(victim: nn.Module, accused: Accused, *others: Any) -> ImportancePair:
    """The ranking without the importance over the target's own samples."""
    suspects = accused.suspects
    everyone = torch.ones(0 if suspects is None else len(suspects), dtype=torch.bool)
    return _ranking(victim, replace(accused, target=suspects, suspected=everyone), *others)


def _all_falling(model: nn.Module, batches: Any) -> dict[str, Tensor]:
    return {name: torch.ones_like(parameter) for name, parameter in model.named_parameters()}


def _not_nudged(victim: nn.Module, batches: Any, arithmetic: Any) -> Any:
    return batches


def _not_diverse(runners: Tensor) -> float:
    return 0.0


def _of_part(number: float) -> Changed:
    """Retain importances from a random part of retain: so many images, or below 1 that share of them."""

    def of(
        own: VictimImportances, share: Share, settings: HealSettings, progress: Progress = silent
    ) -> TimedPair:
        timed, retain = _importances_of(own, share, settings, progress), own.data.retain(share)
        part = random_part(retain, round(number * len(retain)) if number < 1 else int(number))
        return replace(timed, pair=(timed.pair[0], importance_for(settings, own.victim(), part)))

    return _replaced((VictimImportances, "of", of))


def _with_copies(
    settings: HealSettings, model: nn.Module, samples: Batches, augmentation: Augmentation
) -> Importance:
    """Importance of samples and their augmented copies, with the weight of the samples alone.

    They are augmented as they are found: the crop moves the trigger, too, and as images are normalised here,
    what enters at the edges is the mean colour, where training pads with black.
    """
    generator, batches = seeded_generator(0, "copies"), list(samples)
    copies = [(augment(x, augmentation, generator), y) for _ in range(COPIES) for x, y in batches]
    device = next(model.parameters()).device
    whole = importance_for(settings, model, as_batches([*batches, *copies], name="copies", device=device))
    total = {name: value / (1 + COPIES) for name, value in whole.total.items()}
    return replace(whole, total=total, count=len(samples), data=None)


def _augmented(experiment: Experiment) -> AbstractContextManager[Any]:
    """S_f counts with augmented copies wherever its importances are used: in suspicion and in the ranking."""
    augmentation = experiment.scenario.recipe.augmentation

    def of(
        own: VictimImportances, share: Share, settings: HealSettings, progress: Progress = silent
    ) -> TimedPair:
        timed = _importances_of(own, share, settings, progress)
        found = _with_copies(settings, own.victim(), own.data.forget(share), augmentation)
        return replace(timed, pair=(found, timed.pair[1]))

    def ranked(victim: nn.Module, accused: Accused, retain: Importance, settings: HealSettings) -> Any:
        def importance(settings: HealSettings, model: nn.Module, samples: Batches) -> Importance:
            if samples is accused.believed:
                return _with_copies(settings, model, samples, augmentation)
            return importance_for(settings, model, samples)

        with patch.object(ranking, "importance_for", importance):
            return _rank(victim, accused, retain, settings)

    return _replaced((VictimImportances, "of", of), (guarded_problem, "rank", ranked))(experiment)


@torch.no_grad()
def _reestimated(model: nn.Module, data: PoisonedData, cell: Cell) -> nn.Module:
    """BatchNorm statistics taken anew, on retain as it is."""
    for norm in (module for module in model.modules() if isinstance(module, _BatchNorm)):
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
        norm.train()
    for x, _ in random_part(data.retain(cell.share), MOST_REESTIMATED):
        model(x)
    return model.eval()


def _second_round(model: nn.Module, data: PoisonedData, cell: Cell) -> nn.Module:
    """Healed once more, with importances of the healed model, by what it still believes of S_f."""
    forget, settings = data.forget(cell.share), cell.settings or HealSettings()
    predictions, labels = predict(model, forget)
    believed = forget.select(predictions == labels)
    again = "nothing believed"
    if len(believed):
        try:
            healing = theriac.heal(model, believed, data.retain(cell.share), **settings.model_dump())
            model, again = healing.model, healing.status
        except NothingToUnlearn:
            pass
    logging.info("second round: %d of S_f believed, %s", len(believed), again)
    return model


def variants(parts: list[float]) -> dict[str, Variant]:
    """All of them; ``parts`` are the sizes of retain that importances are computed from."""
    nobody_else = (ranking, "look_again", _nobody_else)
    trusting = (guarded_problem, "look_for_suspects", _trusting)
    by_separation = (suspicion, "FAR", suspicion.NEAR), (suspicion, "_diversity", _not_diverse)
    return {
        "as it is": Variant(),
        "hidden poison not looked for": Variant(changed=_replaced(trusting, nobody_else)),
        "others not looked for again": Variant(changed=_replaced(nobody_else)),
        "what is next to them not looked at": Variant(changed=_replaced(*by_separation)),
        "the class's own importance left out": Variant(
            changed=_replaced((ranking, "_ranking", _of_all_classes))
        ),
        "direction left out": Variant(changed=_replaced((ranking, "falling", _all_falling))),
        "no weight left out (guard by stopping)": Variant(changed=_replaced((guarded, "NOISE", 1e9))),
        "harm on images as they are": Variant(changed=_replaced((guarded_problem, "nudged", _not_nudged))),
        "lf": Variant(settings={"method": "lf"}),
        "ssd (fim)": Variant(settings={"method": "ssd"}),
        "granularity batch (16)": Variant(settings={"granularity": "batch", "batch_size": 16}),
        **{
            f"lambda {value:g}": Variant(settings={"dampening_constant": value}) for value in (0.3, 2.0, 10.0)
        },
        **{f"harm_weight {value:g}": Variant(settings={"harm_weight": value}) for value in (4.0, 8.0, 24.0)},
        **{
            f"retain importances from {_named(part)} images": Variant(changed=_of_part(part))
            for part in parts
        },
        "S_f augmented by crops and flips": Variant(changed=_augmented),
        "BatchNorm re-estimated on retain afterwards": Variant(then=_reestimated),
        "a second round of importances at the healed weights": Variant(then=_second_round),
        "PTN, xlf, sample": Variant(settings={"search": "ptn"}),
    }


def _named(part: float) -> str:
    return f"{100 * part:g} % of the" if part < 1 else f"{part:g}"


def scenarios(options: argparse.Namespace) -> Iterator[Scenario]:
    """The victims."""
    for text in options.victims:
        if text != "digits":
            yield cifar10(text, options)
            continue
        for (trigger, target), manipulated, seed in product(ATTACKS, (100, 200), options.seeds):
            attack = Attack(trigger=parse_trigger(trigger), target=target)
            update = {"seed": seed, "manipulated": manipulated, "attack": attack}
            yield PRESETS["digits"].model_copy(update=update)


def cell_of(variant: Variant, share: Share, dataset: str) -> Cell:
    settings = {"search": "guarded", **USUAL[dataset], **variant.settings}
    return Cell(share=share, settings=HealSettings.model_validate(settings))


def run(experiment: Experiment, variant: Variant, cell: Cell) -> Row:
    """The search's row; where the victim believes nothing of S_f, with the victim's scores."""

    def truth(model: nn.Module, data: PoisonedData) -> Truth:
        return measure_truth(variant.then(copy.deepcopy(model), data, cell), data)

    with variant.changed(experiment), patch.object(treatment, "measure_truth", truth):
        try:
            return run_cell(experiment, cell).search
        except NothingToUnlearn:
            return experiment.scored(cell, {"status": "nothing_to_unlearn"}, None).search


def compute(options: argparse.Namespace, chosen: Mapping[str, Variant]) -> None:
    """A row for each victim, variant and share, written as soon as it is known."""
    path = options.out.with_suffix(".parquet")
    rows: list[Row] = pq.read_table(path).to_pylist() if path.exists() else []
    done = {(row["key"], row["variant"]) for row in rows}
    for scenario in scenarios(options):
        scoring = Scoring(steps=0, reference=False)
        experiment = Experiment(
            scenario, ArtifactStore(options.store), data_root=options.data, scoring=scoring
        )
        experiment.trained(Part("victim"))
        if failure := experiment.gate_failure():
            logging.warning("%s is left out: %s", scenario.attack.name, failure["error_message"])
            continue
        for (name, variant), share in product(chosen.items(), options.shares):
            cell = cell_of(variant, share, scenario.dataset)
            if (experiment.key(cell), name) in done:
                continue
            rows.append(kept(run(experiment, variant, cell), name))
            write(rows, options.out)


def kept(found: Row, variant: str) -> Row:
    """The columns that are written."""
    row = {name: {**found, "variant": variant}.get(name) for name in KEPT}
    names = ("attack", "manipulated", "seed", "variant", "share", "status", "damage", "asr", "healed_raw")
    logging.info("%s", "  ".join(f"{name} {row[name]}" for name in names))
    return row


def write(rows: list[Row], out: Path) -> None:
    """All rows as Parquet, and means by dataset, variant and share."""
    unfinished = out.with_suffix(".unfinished")
    pq.write_table(pa.Table.from_pylist(rows), unfinished)
    unfinished.replace(out.with_suffix(".parquet"))
    lines = [f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|"]
    columns = [dict.fromkeys(row[name] for row in rows) for name in GROUP]
    for group in product(*columns):
        own = [row for row in rows if tuple(row[name] for name in GROUP) == group]
        if own:
            lines.append(f"| {' | '.join(map(str, (*group, *means(own))))} |")
    where = ", ".join(f"{name} {value}" for name, value in provenance("cpu").items())
    out.with_suffix(".md").write_text("\n".join([*lines, "", where, ""]))


def means(rows: list[Row]) -> tuple[int | str, ...]:
    """The entries of a line but its first ones."""
    still = sum(row["status"] != "stopped" for row in rows)
    damage, asr, healed_raw = (fmean(row[name] for row in rows) for name in ("damage", "asr", "healed_raw"))
    worst = min(row["damage"] for row in rows)
    shares = (f"{100 * asr:.1f}", f"{100 * healed_raw:.1f}")
    return len(rows), still, f"{damage:.1f}", f"{worst:.1f}", *shares


def main() -> None:
    """Parse the arguments, run, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--victims", nargs="+", default=["digits"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of digits")
    parser.add_argument(
        "--shares", nargs="+", type=lambda t: t if t == "one_shot" else float(t), default=SHARES
    )
    parser.add_argument("--variants", nargs="+", metavar="NAME", help="as the table names them; all")
    parser.add_argument(
        "--retain-images",
        type=float,
        nargs="+",
        default=[0.25, 500],
        help="how many retain importances are computed from, below 1 which share; where there are fewer, all",
    )
    parser.add_argument("--width", type=float, default=0.375, help="of CIFAR-10 victims")
    parser.add_argument("--iterations", type=int, default=1000, help="likewise")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("guarded-ablation"))
    options = parser.parse_args()
    known = variants(options.retain_images)
    unknown = set(options.variants or known) - set(known)
    if unknown:
        parser.error(f"no variants: {', '.join(sorted(unknown))}; there are: {'; '.join(known)}")
    torch.set_num_threads(options.threads)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    compute(options, {name: known[name] for name in options.variants or known})


if __name__ == "__main__":
    main()
