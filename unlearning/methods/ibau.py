"""I-BAU: adversarial unlearning of backdoors by implicit hypergradient (Zeng et al., 2022, Algorithm 1).

Published numbers need `IBAU.paper` or `IBAU.released`; the defaults are ours. How these were found, and what
they heal, stands in ``tests/benchmarks/results/ibau-journal.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from .ibau_round import Session
from .ibau_settings import IBAUSettings
from .unlearner import TRAINED_IMAGE, Known, Run, Set


class IBAU(IBAUSettings):
    """Unlearns universal perturbations that the model itself is most sensitive to.

    A round: delta climbs, by gradient ascent, to where the model errs on clean images; then every batch
    descends the hypergradient of its loss with delta on some of its images. ``delta`` lives in pixels of
    [0, 1] whatever the normalisation.
    """

    needs: ClassVar[tuple[Set, ...]] = ("clean",)

    def work(self, sizes: Mapping[Set, int], classes: int) -> float:
        """Return the work of a run; see `Unlearner.work`.

        An outer step takes 3 forward passes, or 9 + 2 (K - 1) with K > 0 iterations.
        """
        clean = sizes["clean"]
        size = min(self.batch_size, clean)
        batches = -(-clean // size)
        outer = 9 + 2 * (self.iterations - 1) if self.iterations else TRAINED_IMAGE
        ascents = self.perturbations * (self.inner_steps or batches) * TRAINED_IMAGE
        looks = 3 * min(self.probe or clean, clean)
        return self.rounds * (size * (outer * (self.batches or batches) + ascents) + looks)

    def _unlearn(self, model: nn.Module, known: Known, run: Run) -> None:
        session = Session(self, model, known.need("clean", "IBAU"), run)
        best, since = session.victim_recovered, 0
        for _ in range(self.rounds):
            before = _weights(model)
            row = session.round()
            damaged = self.most_damage is not None and row["damage"] < -self.most_damage
            if damaged:
                model.load_state_dict(before)
            run.record(model, self.rounds, **row, undone=damaged)
            since = 0 if row["recovered"] > best else since + 1
            best = max(best, row["recovered"])
            done = self.recovered is not None and row["recovered"] >= self.recovered
            if damaged or done or since == self.patience:
                run.status = "stopped"
                return


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}
