"""Measure what a sweep will cost in a few timed batches, without training a victim.

An untrained model costs the same for each batch as a trained one, and made-up importances as much as real
ones: nothing here depends on the values of weights.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from ...datasets.poisoning import PoisonedData, discovered_count
from ...datasets.sources import ImageDataset, MissingDataset, load_dataset
from ...datasets.views import View
from ...unlearning.dampening import bytes_of
from ...unlearning.importance import Importance, estimate_importances
from ...unlearning.inference import predict
from ...unlearning.models import create_model
from ...unlearning.training import train
from ..dampening_problem import DampeningProblem
from ..dampening_run import Progress, silent
from ..ptn import percentile_of
from ..stopwatch import Stopwatch, peak_memory
from ..store import ArtifactStore
from ..sweep import ImportancePart, Scenario, Task
from .costs import Costs, ForgetPass, Line, Reading, ScenarioSort, SortCosts, large_sets
from .stand_in import Noise, stand_in

SECONDS = 8.0
SETTINGS = 6
"""Of a search: the first of them is counted to the problem, which it warms up."""
REPEATS = 4
TINY = 1e-9
"""A learning rate that leaves the model as it is, so that no number of iterations diverges."""


def measure_costs(
    tasks: Sequence[Task],
    *,
    data_root: Path | None = None,
    device: str = "cpu",
    seconds: float = SECONDS,
    threads: int | None = 1,
    progress: Progress = silent,
) -> Costs:
    """Measure what the tasks cost on ``device``, by a few timed batches of every sort of scenario.

    A dataset that is not on this machine is made up, as large as it was published; the notes say so.

    Args:
        tasks: of a sweep.
        data_root: folder of the datasets; None for the default.
        device: "cpu" or "cuda".
        seconds: about how long to measure each sort, without loading its dataset; above 0. Where a single
            batch takes longer, smaller ones are measured and taken as proportional: the notes say so.
        threads: of torch while measuring; None: as it is. Workers on CPUs have one.
        progress: called with ("measuring", sorts done, sorts).

    Raises:
        BadInput: a dataset is unknown or cannot be read, or a model cannot take its images.
    """
    where, before = torch.device(device), torch.get_num_threads()
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats(where)
    groups = _by_sort(tasks)
    sorts: dict[ScenarioSort, SortCosts] = {}
    notes: list[str] = []
    datasets: dict[tuple[str, int | None], tuple[ImageDataset, float]] = {}
    try:
        torch.set_num_threads(threads or before)
        for number, (sort, group) in enumerate(groups.items()):
            progress("measuring", number, len(groups))
            loaded = _loaded(datasets, sort, data_root, where)
            notes += _made_up_note(loaded[0])
            measured = _Measurement(group, *loaded, where, seconds)
            sorts[sort] = measured.costs()
            notes += [f"{sort.name}: {note}" for note in measured.notes]
    finally:
        torch.set_num_threads(before)
    progress("measuring", len(groups), len(groups))
    costs = Costs(
        sorts=sorts, device=where.type, peak_memory=peak_memory(where), notes=tuple(dict.fromkeys(notes))
    )
    if where.type != "cuda":
        return costs
    gpu = torch.cuda.get_device_properties(where)
    return replace(costs, device=gpu.name, device_memory=gpu.total_memory)


def _by_sort(tasks: Iterable[Task]) -> dict[ScenarioSort, list[Task]]:
    groups: dict[ScenarioSort, list[Task]] = {}
    for task in tasks:
        groups.setdefault(ScenarioSort.of(task.scenario), []).append(task)
    return groups


def _loaded(
    datasets: dict[tuple[str, int | None], tuple[ImageDataset, float]],
    sort: ScenarioSort,
    data_root: Path | None,
    where: torch.device,
) -> tuple[ImageDataset, float]:
    """Load the dataset once, and return it with the seconds that took."""
    key = (sort.dataset, sort.image_size)
    if key not in datasets:
        start = time.perf_counter()
        try:
            dataset = load_dataset(sort.dataset, root=data_root, image_size=sort.image_size).to(where)
        except MissingDataset:
            dataset = stand_in(sort.dataset, root=data_root, image_size=sort.image_size)
        datasets[key] = dataset, time.perf_counter() - start
    return datasets[key]


def _made_up_note(dataset: ImageDataset) -> list[str]:
    """Say that a dataset is made up, if it is."""
    if not isinstance(dataset.train, Noise):
        return []
    return [
        f"{dataset.name} is not on this machine: measured on noise of its published size, without reading "
        f"and decoding images (theriac list datasets says where it is looked for)"
    ]


@dataclass(kw_only=True)
class _Batch:
    """How many samples fit the time, and how many were wanted."""

    count: int
    wanted: int


class _Measurement:
    """Times one sort of scenario; the first task's scenario stands for all."""

    def __init__(
        self,
        tasks: Sequence[Task],
        dataset: ImageDataset,
        load: float,
        device: torch.device,
        seconds: float,
    ) -> None:
        self.tasks, self.load, self.device, self.notes = tasks, load, device, list[str]()
        self.scenario: Scenario = tasks[0].scenario
        self.data = PoisonedData(
            dataset=dataset,
            attack=self.scenario.attack,
            manipulated=self.scenario.manipulated,
            seed=self.scenario.seed,
            device=device,
        )
        self.train_set = self.data.train()
        self.parts = _distinct(tasks, len(self.train_set))
        self.passes = _passes(tasks)
        # training, forward passes, each reading, each sort of search
        self.budget = seconds / (2 + len(self.parts) + 2 * len(self.passes))

    def costs(self) -> SortCosts:
        build = self.timed(self._new_model)
        model = self._new_model()
        forward = self._forward(model)
        made = _made_up(model)
        store, read = self._storage(made)
        problem, setting = self._searches(model, made, forward)
        return SortCosts(
            train_count=len(self.train_set),
            test_count=len(self.data.dataset.test),
            classes=len(self.data.dataset.classes),
            parameters=sum(p.numel() for p in model.parameters()),
            model_bytes=bytes_of(model.state_dict().values()),
            importance_bytes=bytes_of(made.total.values()),
            load=self.load,
            build=build,
            forward=forward,
            store=store,
            read=read,
            problem=problem,
            setting=setting,
            importance={Reading.of(part): self._reading(model, part, forward) for part in self.parts},
            iteration=self._iteration(model, forward),
        )

    def timed(self, do: Callable[[], object]) -> float:
        watch = Stopwatch(self.device)
        with watch.phase("all"):
            do()
        return watch.seconds["all"]

    def best(self, do: Callable[[], object]) -> float:
        """Return the seconds of the fastest of up to `REPEATS` times: others may be busy on this machine."""
        found = [self.timed(do)]
        while len(found) < REPEATS and sum(found) + min(found) < self.budget:
            found.append(self.timed(do))
        return min(found)

    def _new_model(self) -> nn.Module:
        dataset = self.data.dataset
        model = create_model(self.scenario.model, num_classes=len(dataset.classes), shape=dataset.shape)
        return model.to(self.device).eval()

    def _forward(self, model: nn.Module) -> float:
        """Measure the seconds of a forward pass for an image."""
        test = self.data.test()

        def each(count: int) -> float:
            chosen = test.select(_first(count, test))
            return self.best(lambda: predict(model, chosen)) / len(chosen)

        first = each(16)
        count = min(len(test), 2048, int(self.budget / REPEATS / max(first, TINY)))
        return each(count) if count > 16 else first

    def _fitting(self, wanted: int, each: float, what: str) -> _Batch:
        """Tell how many of the wanted samples the time allows, at so many seconds each."""
        count = max(1, min(wanted, len(self.train_set), int(self.budget / REPEATS / max(each, TINY))))
        if count < min(wanted, len(self.train_set)):
            self.notes.append(f"{what} measured with batches of {count} instead of {wanted}")
        return _Batch(count=count, wanted=min(wanted, len(self.train_set)))

    def _iteration(self, model: nn.Module, forward: float) -> float:
        """Measure the seconds of an iteration of training.

        The model's weights stay as they are, but for rounding.
        """
        batch = self._fitting(self.scenario.recipe.batch_size, 4 * forward, "training")
        changes = {"batch_size": batch.count, "learning_rate": TINY, "weight_decay": 0.0}

        def run(iterations: int) -> float:
            recipe = self.scenario.recipe.model_copy(update={**changes, "iterations": iterations})
            return self.timed(lambda: train(model, self.train_set, recipe, seed=0))

        first = run(1)
        count = max(1, min(20, int(self.budget / REPEATS / max(first, TINY))))
        found = [run(count) for _ in range(REPEATS if count > 1 else 1)]
        return min(found) / count * batch.wanted / batch.count

    def _reading(self, model: nn.Module, part: ImportancePart, forward: float) -> Line:
        """Measure the seconds of importances, by samples; from one sample and from several."""

        def run(count: int) -> float:
            samples = self.train_set.select(_first(count, self.train_set)).batched(part.batch_size)
            return self.best(
                lambda: estimate_importances(
                    model,
                    samples,
                    kinds=part.kinds,
                    granularity=part.granularity,
                    precision=part.precision,
                )
            )

        one = run(1)
        most = max(part.batch_size, min(256, len(self.train_set)))
        batch = self._fitting(most, 4 * forward * len(part.kinds), f"{part.granularity} importance")
        count = min(batch.count, len(self.train_set))
        if part.granularity == "batch" and count > part.batch_size:
            count -= count % part.batch_size
        if count < 2:
            return Line(each=one)
        many = run(count)
        each = max(many - one, many / 2) / (count - 1)
        return Line(fixed=max(0.0, many - each * count), each=each)

    def _storage(self, made: Importance) -> tuple[float, float]:
        """Measure the seconds to write and to read importances of one kind in a folder of this machine."""
        with tempfile.TemporaryDirectory(prefix="theriac-plan-") as folder:
            store = ArtifactStore(folder)
            write = self.timed(lambda: store.put_importance("plan", made, {"seconds": 0.0}))
            path = store.importance("plan").path
            return write, self.timed(lambda: Importance.load(path, self.device))

    def _searches(
        self, model: nn.Module, made: Importance, forward: float
    ) -> tuple[float, dict[ForgetPass, Line]]:
        """Measure the seconds to build a problem, and of a setting, by samples of S_f."""
        problems: list[float] = []
        settings: dict[ForgetPass, Line] = {}
        for one, counts in self.passes.items():
            afforded = self._afforded(counts, forward)
            points = [(count, *self._search(model, made, one, count)) for count in afforded]
            problems += [problem for _, problem, _ in points]
            (low, _, first), (high, _, last) = points[0], points[-1]
            each = max(0.0, (last - first) / (high - low)) if high > low else 0.0
            settings[one] = Line(fixed=max(0.0, last - each * high), each=each)
        return min(problems, default=0.0), settings  # the first has imports to do

    def _afforded(self, counts: tuple[int, ...], forward: float) -> tuple[int, ...]:
        """Return the sizes of S_f to measure, ascending: those wanted, or smaller ones that give a slope."""
        most = max(2, int(self.budget / REPEATS / max(forward, TINY)))
        if counts[-1] <= most:
            return counts
        note = f"settings measured with {most} samples of S_f instead of {counts[-1]}"
        if note not in self.notes:
            self.notes.append(note)
        return min(counts[0], most // 2), most

    def _search(self, model: nn.Module, made: Importance, one: ForgetPass, count: int) -> tuple[float, float]:
        forget = self.train_set.select(_first(count, self.train_set)).batched(one.batch_size)
        piece = None if one.piece == "whole" else one.piece
        other = replace(made, total={name: total.flip(0) for name, total in made.total.items()})
        start, problem = count / len(self.train_set) / 25, list[DampeningProblem]()

        def build() -> None:
            problem.append(DampeningProblem(model, forget, made, other, piece=piece, forget_count=count))
            problem[0].evaluate(percentile_of(start))

        first, found = self.timed(build), list[float]()
        while not found or (len(found) < SETTINGS and sum(found) < self.budget):
            at = percentile_of(start * 1.1 ** (4 * len(found) + 4))
            found.append(self.timed(lambda at=at: problem[0].evaluate(at)))  # type: ignore[misc]
        return first, statistics.median(found)


def _first(count: int, view: View) -> torch.Tensor:
    return torch.arange(min(count, len(view)))


def _made_up(model: nn.Module) -> Importance:
    """Make up sums of one sample in [0, 1), of every parameter."""
    generator = torch.Generator().manual_seed(0)
    total = {
        name: torch.rand(p.shape, generator=generator, dtype=torch.float64).to(p.device)
        for name, p in model.named_parameters()
    }
    return Importance(total=total, count=1, kind="xlf", granularity="sample")


def _distinct(tasks: Sequence[Task], train_count: int) -> tuple[ImportancePart, ...]:
    """Return one large set for each reading that the tasks need; those of all scenarios are alike."""
    scenario = tasks[0].scenario
    alike = [task for task in tasks if task.scenario == scenario]
    others = {Reading.of(part): part for part in large_sets(alike, train_count)}
    return tuple(others.values())


def _passes(tasks: Sequence[Task]) -> dict[ForgetPass, tuple[int, ...]]:
    """Return the smallest and the largest S_f of every way to read it."""
    counts: dict[ForgetPass, set[int]] = {}
    for task in tasks:
        settings = task.cell.dampening
        if settings:
            found = discovered_count(task.scenario.manipulated, task.cell.share)
            counts.setdefault(ForgetPass.of(settings), set()).add(found)
    return {one: tuple(sorted({min(found), max(found)})) for one, found in counts.items()}
