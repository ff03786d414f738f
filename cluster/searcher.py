"""A sweep as Ray Tune sees it: one experiment whose next trial depends on the answers of the others."""

from __future__ import annotations

import logging
import os
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from .conductor import Conductor
from .scratch import scratch_folder
from .trials import JobTrial

ATTEMPTS = 2
PENDING = "TUNE_MAX_PENDING_TRIALS_PG"
CHECKPOINTS = "TUNE_GLOBAL_CHECKPOINT_S"
NEW_OUTPUT = "RAY_AIR_NEW_OUTPUT"
NO_HANDLER = "TUNE_DISABLE_SIGINT_HANDLER"


class SweepSearcher(Searcher):
    """Interleaves the blocks of many searches, as the conductor's schedule says."""

    def __init__(self, conductor: Conductor) -> None:
        super().__init__(metric="done", mode="max")
        self._conductor = conductor

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the next job; None: wait; `Searcher.FINISHED`: there will be no more."""
        if self._conductor.finished:
            return Searcher.FINISHED  # type: ignore[return-value]  # a word, whatever Tune's types say
        return self._conductor.suggest(trial_id)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Take the answer."""
        self._conductor.completed(trial_id, None if error else result)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Do nothing: a trial has one result, which comes when it is complete."""

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: what is finished is in the results and in the store, not in Tune's checkpoints."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing; see `save`."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Save nothing; see `save`."""

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its settings to be able to resume an experiment, which nobody does here
        return {}


def fan_out(conductor: Conductor, *, verbose: bool = False) -> None:
    """Run the conductor's schedule to its end in one `Tuner.fit`.

    Args:
        conductor: has the jobs and the workers.
        verbose: let Tune speak.

    Raises:
        BadInput: the sweep cannot go on, and the user can help.
    """
    # trials start side by side, and Tune saves none of its own state while it runs
    os.environ[NEW_OUTPUT] = "1" if verbose else "0"  # the new one draws boxes whatever it is told
    os.environ[PENDING], os.environ[CHECKPOINTS] = str(max(1, len(conductor.fleet.members))), "1000000000"
    os.environ[NO_HANDLER] = "1"  # Tune's would take the place of `Interrupts`, and drop what has begun
    logging.getLogger("ray.tune").setLevel(logging.INFO if verbose else logging.ERROR)
    with scratch_folder("tune") as folder:
        _tuner(SweepSearcher(conductor), str(folder), verbose).fit()
    if conductor.error:
        raise conductor.error


def _tuner(searcher: Searcher, folder: str, verbose: bool) -> tune.Tuner:
    return tune.Tuner(
        JobTrial,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
            trial_name_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=folder,
            failure_config=tune.FailureConfig(max_failures=ATTEMPTS),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            verbose=1 if verbose else 0,
        ),
    )
