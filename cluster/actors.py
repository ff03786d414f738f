"""What a Ray actor does: it holds victims, importances and data on its device, and answers with scalars.

Trials look its class up, so this module is imported wherever one runs: torch, which takes seconds and
hundreds of megabytes, is imported by the actor alone.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..search.sweep import CellRows

GIBIBYTE = 1 << 30

Phase = tuple[str, int, int | None]


@dataclass(frozen=True, kw_only=True)
class ActorSettings:
    """How an actor works.

    Attributes:
        store: location of the artifact store.
        data_root: folder of the datasets; None for the default.
        device: "cpu" or "cuda".
        scoring: `Scoring` as JSON (never pickled tensors).
        sharers: actors that share the memory of the device; each keeps between jobs what fits its part of
            half of what is free when it starts.
        threads: of torch.
        code: the user's own modules, see `shipped_code`.
    """

    store: str = field(repr=False)  # it may hold a password
    data_root: str | None = None
    device: str = "cpu"
    scoring: str = "{}"
    sharers: int = 1
    threads: int = 1
    code: str = field(default="[]", repr=False)


class ImportanceActor:
    """Does jobs; see `JobRunner`. All methods are idempotent: a killed actor is restarted and asked again.

    A job is a JSON text, and so is its answer. Other threads of the actor tell how far it is, and hand out
    rows of cells; a job that is asked for while one is being done waits for it.
    """

    def __init__(self, settings: ActorSettings) -> None:
        import torch

        from ..datasets.own_code import take_code
        from ..search.store import ArtifactStore
        from ..search.sweep import JobRunner, Scoring
        from ..unlearning.memory import free_memory

        take_code(settings.code)
        torch.set_num_threads(settings.threads)
        self._lock = threading.Lock()
        self._phase: Phase | None = None
        self._runner = JobRunner(
            ArtifactStore(settings.store),
            data_root=None if settings.data_root is None else Path(settings.data_root),
            device=settings.device,
            scoring=Scoring.model_validate_json(settings.scoring),
            budget=(free_memory(torch.device(settings.device)) or GIBIBYTE) // 2 // settings.sharers,
            progress=self._note,
        )

    def work(self, job: str) -> str:
        """Do a job (JSON of `search.jobs`); return the answer as JSON."""
        from ..search.sweep import read_job

        with self._lock:
            self._phase = ("starting", 0, None)
            try:
                return self._runner.run(read_job(job)).model_dump_json()
            finally:
                self._phase = None

    def collect(self, key: str) -> CellRows:
        """Return the rows of a cell that a job finished.

        Raises:
            KeyError: they are not here: the actor was restarted.
        """
        return self._runner.collect(key)

    def phase(self) -> Phase | None:
        """Return what the actor is doing: (phase, done, total or None); None: nothing."""
        return self._phase

    def _note(self, phase: str, done: int, total: int | None) -> None:
        self._phase = (phase, done, total)
