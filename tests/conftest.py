"""Settings for all tests: one thread, no windows, no telemetry, no clock in property tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# before torch, matplotlib or Ray are imported, here or in a subprocess
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import pytest
import yaml
from hypothesis import settings
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parent.parent

settings.register_profile("theriac", deadline=None, max_examples=50, print_blob=True)
settings.load_profile("theriac")


class RootIsNoTestPackage:
    """Keeps pytest from importing the package a second time, under the name of the checkout's folder."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        return pytest.Dir.from_parent(parent, path=path) if path == ROOT else None


WHOLE_SWEEPS = ("test_cluster_faults", "test_cluster_nodes", "test_cluster_sweep", "test_cluster_tuning")
"""Files whose tests run sweeps on two workers of Ray: one after another, or they wait for each other."""
SLOW = frozenset(
    f"test_{name}"
    for name in (
        "cluster_cli",
        "cluster_commands_doctor",
        "cluster_commands_heal",
        "cluster_commands_lists",
        "cluster_commands_messages",
        "cluster_environment",
        "cluster_faults",
        "cluster_nodes",
        "cluster_session",
        "cluster_sweep",
        "cluster_tuning",
        "docs",
        "fuzz",
        "golden",
        "golden_ibau",
        "packaging",
        "search_clean_reference",
        "search_dampening_problem",
        "search_foreign_models",
        "search_given_workers",
        "search_grid_pairs_cells",
        "search_heal_guarded",
        "search_heal_keywords",
        "search_plan_simulation",
        "search_report_all_figures",
        "search_report_figures_flips",
        "search_report_figures_healing",
        "search_report_figures_importances",
        "search_report_figures_sensitivity",
        "search_report_figures_shares",
        "search_report_figures_times",
        "search_report_figures_tradeoff",
        "search_report_figures_trials",
        "search_report_figures_trigger_sheet",
        "search_report_page",
        "search_report_page_browser",
        "search_store_artifacts",
        "search_store_compaction_processes",
        "search_store_leftovers",
        "search_store_results",
        "search_store_seals",
        "search_store_storage",
        "search_sweep_runner",
        "search_sweep_schedule",
        "search_sweep_training_cell",
        "search_sweep_victim_bench",
        "search_sweep_victim_importances",
        "search_sweep_victim_importances_half",
        "search_training_registry",
        "unlearning_importance_estimate_precision",
        "unlearning_importance_traversal",
        "unlearning_memory",
        "unlearning_methods_fine_pruning",
        "unlearning_methods_fine_tuning",
        "unlearning_methods_hypergradient",
        "unlearning_methods_nad",
        "unlearning_methods_neural_cleanse",
        "unlearning_trigger_shifting",
    )
)
"""Files that train, start Ray or other processes: most of the time, and not in `make test-fast`."""


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the slow tests."""
    if item.path.stem in SLOW:
        item.add_marker(pytest.mark.slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of a file, which share victims, in one process of pytest-xdist, and so whole sweeps."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = Path(nodeid.partition("::")[0]).stem
            return "sweeps" if file in WHOLE_SWEEPS else file

    return ByFile(config, log)


def pytest_configure(config: pytest.Config) -> None:
    # a plugin, because the hook of a conftest only sees the folders below it
    config.pluginmanager.register(RootIsNoTestPackage(), "theriac-root")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str | dict[str, Any]], Path]:
    """Writes a sweep file, from its text or from what it says."""

    def file(text: str | dict[str, Any]) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(text if isinstance(text, str) else yaml.safe_dump(text, sort_keys=False))
        return path

    return file


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved, for a look inside."""
    seen: list[Figure] = []
    original = Figure.savefig

    def savefig(self: Figure, *arguments: Any, **options: Any) -> None:
        seen.append(self)
        original(self, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return seen


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """A Ray of this process with two CPUs, for all tests of a file; no `Cluster` can be made beside it."""
    from theriac.cluster.session import local_ray  # here, because most tests need no Ray

    with local_ray(2):
        yield
