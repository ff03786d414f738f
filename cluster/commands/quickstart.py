"""The main job, end to end, on the handwritten digits that scikit-learn carries: the sweep `quickstart`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import torch

from ...datasets.poisoning import PoisonedData
from ...search.report import caption, contact_sheet, tradeoff_figure
from ...search.store import ArtifactStore, ResultsStore
from ...search.sweep import Experiment, Scenario, Sweep, load_sweep
from ..run_sweep import Summary, SweepRun
from ..watch import Reporter

SAMPLES_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Quickstart:
    """What `run_quickstart` leaves behind.

    Attributes:
        summary: cells computed and failed.
        searches: the rows of the run, for `theriac.search.report.table`.
        figures: the pictures written.
        results: the directory of everything.
    """

    summary: Summary
    searches: pa.Table
    figures: tuple[Path, ...]
    results: Path

    def lines(self) -> list[str]:
        """Tell what was written, and how much of it is new."""
        computed, cells = self.summary.computed, len(self.summary.keys)
        return [
            *(f"figure: {figure}" for figure in self.figures),
            f"results: {self.results}/  (theriac table {self.results})",
            f"cells: {computed} computed, {cells - computed} already there",
        ]


def quickstart_sweep(seed: int) -> Sweep:
    """Return the sweep of the quickstart.

    None, EU, and PTN with SSD, LF and XLF at both granularities, with a fifth of S_m found.
    """
    return load_sweep("quickstart", [f"seeds=[{seed}]"])


def run_quickstart(
    directory: Path, *, workers: int, seed: int, fresh: bool, verbose: bool, reporter: Reporter
) -> Quickstart:
    """Poison the digits, train a victim, heal it in seven ways, write results and figures.

    Args:
        directory: where results, models and figures go.
        workers: Ray workers, one CPU each.
        seed: of the scenario.
        fresh: compute again what the directory holds already.
        verbose: let Ray log.
        reporter: is told how the work goes on.

    Raises:
        BadInput: the directory cannot be used, or the victim cannot be trained.
    """
    sweep = quickstart_sweep(seed)
    run = SweepRun(sweep=sweep, directory=directory, workers=workers, fresh=fresh)
    summary = run.execute(reporter, verbose=verbose)
    searches, steps = _rows(directory, summary)
    return Quickstart(
        summary=summary,
        searches=searches,
        figures=_draw(sweep.tasks()[0].scenario, searches, steps, directory),
        results=directory,
    )


def _rows(directory: Path, summary: Summary) -> tuple[pa.Table, pa.Table]:
    results, keys = ResultsStore(directory), list(summary.keys)
    searches = results.read("searches").filter(pc.field("key").isin(keys))
    return searches, results.read("steps").filter(pc.field("search").isin(keys))


def _draw(scenario: Scenario, searches: pa.Table, steps: pa.Table, directory: Path) -> tuple[Path, ...]:
    samples = draw_samples(Experiment(scenario, ArtifactStore(directory)).data, directory / "samples.png")
    if steps["s"].null_count == steps.num_rows:  # none at all, or only those of a grid
        return (samples,)
    return (samples, tradeoff_figure(steps, searches, directory / "tradeoff.png"))


def draw_samples(data: PoisonedData, path: Path) -> Path:
    """Draw a sheet of test images, clean and triggered, and of poisoned training samples with labels."""
    classes, rows = data.dataset.classes, torch.arange(min(SAMPLES_SHOWN, len(data.dataset.test)))
    poisoned = data.forget(1.0)
    shown = torch.arange(min(SAMPLES_SHOWN, len(poisoned)))
    true = [classes[label] for label in data.test().true_labels[rows].tolist()]
    pairs = zip(poisoned.true_labels[shown].tolist(), poisoned.labels[shown].tolist(), strict=True)
    return contact_sheet(
        {
            "clean test": data.test().pixels(rows),
            "triggered test": data.triggered_test().pixels(rows),
            "poisoned training": poisoned.pixels(shown),
        },
        path,
        {
            "clean test": [caption(name) for name in true],
            "triggered test": [caption(name) for name in true],
            "poisoned training": [caption(classes[t], classes[given]) for t, given in pairs],
        },
    )
