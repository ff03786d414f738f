"""Importances of which a killed process, or a full disk, left only some: the rest comes out bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from theriac.search.settings import HealSettings
from theriac.search.store.artifacts import ArtifactStore
from theriac.search.sweep.scenario import PRESETS
from theriac.search.sweep.victim_bench import Experiment, Part
from theriac.unlearning.kinds import Granularity
from theriac.unlearning.models.build import ModelSpec
from theriac.unlearning.training import Recipe

SCENARIO = PRESETS["digits"].model_copy(
    update={"model": ModelSpec(width=0.0625), "recipe": Recipe(iterations=3, batch_size=64)}
)


def contents(root: Path) -> dict[str, dict[str, bytes]]:
    files = root.glob("importances/*/*.safetensors")
    return {
        file.parent.name: {name: one.numpy().tobytes() for name, one in load_file(file).items()}
        for file in files
    }


@pytest.mark.parametrize("granularity", ["sample", "batch"])
def test_what_was_lost_is_made_again_bit_for_bit(granularity: Granularity, tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    experiment = Experiment(SCENARIO, store)
    experiment.trained(Part("victim"))

    def make() -> dict[str, dict[str, bytes]]:
        for method in ("lf", "xlf", "ssd"):
            settings = HealSettings(method=method, granularity=granularity, batch_size=256)
            experiment.importances.of("one_shot", settings)
        return contents(tmp_path)

    before = make()
    assert len(before) == 6
    for key in before:
        store.discard_importance(key)
        assert make() == before
