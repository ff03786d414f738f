"""Inputs in processes of their own: one that hangs, eats memory or dies ends alone, and is named."""

from __future__ import annotations

import importlib
import logging
import multiprocessing as mp
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TextIO

from .cases import Kind, Verdict, command, judged

KINDS = {
    "yaml": "yaml_files",
    "commands": "command_lines",
    "images": "image_folders",
    "parquet": "parquet_files",
    "checkpoints": "checkpoint_files",
    "results": "results_folders",
    "store": "store_entries",
    "heal": "heal_arguments",
}
"""Kind -> the module of this folder that makes its inputs."""

MOST_SECONDS, MOST_BYTES = 10.0, 1 << 30
LOOK_SECONDS, MAKING_SECONDS = 0.05, 300.0
IMPORTED = (
    "cluster.commands.display",
    "cluster.run_sweep",
    "cluster.commands.heal",
    "search.report.all_figures",
    "search.report.table",
)
Job = tuple[str, int]


@dataclass
class Worker:
    """A process, what it works on, and since when."""

    process: Any
    pipe: Connection
    job: Job | None = None
    begun: float = 0.0
    before: int = 0
    shown: str = ""


def judged_jobs(
    jobs: Sequence[Job], *, workers: int = 2, seconds: float = MOST_SECONDS, memory: int = MOST_BYTES
) -> Iterator[tuple[Job, Verdict]]:
    """How each (kind, seed) ends, in the order of their ends.

    Args:
        jobs: what to try.
        workers: processes.
        seconds: what an input may take.
        memory: bytes that it may take on top of what the process has.
    """
    _preload({kind for kind, _ in jobs})
    left = list(reversed(jobs))
    with tempfile.TemporaryDirectory(prefix="theriac-fuzz-") as folder:
        pool = [_started(folder) for _ in range(min(workers, len(left)))]
        try:
            while left or any(worker.job for worker in pool):
                for worker in pool:
                    if worker.job is None and left:
                        _give(worker, left.pop())
                for number, worker in enumerate(pool):
                    verdict = _look(worker, seconds, memory)
                    if verdict is None or worker.job is None:
                        continue
                    yield worker.job, verdict
                    worker.job = None
                    if not worker.process.is_alive():
                        pool[number] = _started(folder)
                wait([worker.pipe for worker in pool if worker.job], timeout=LOOK_SECONDS)
        finally:
            for worker in pool:
                worker.process.kill()
                worker.process.join()


def _preload(kinds: set[str]) -> None:
    """Import and prepare once, before processes split off, what takes seconds."""
    own = [f"theriac.tests.fuzz.{KINDS[kind]}" for kind in kinds]
    for name in (*(f"theriac.{one}" for one in IMPORTED), *own):
        getattr(importlib.import_module(name), "prepare", lambda: None)()


def _started(folder: str) -> Worker:
    here, there = mp.Pipe()
    process = mp.get_context("fork").Process(target=_work, args=(there, folder), daemon=True)
    process.start()
    there.close()
    here.recv()  # ready: imports are no part of an input's time
    return Worker(process=process, pipe=here)


def _give(worker: Worker, job: Job) -> None:
    worker.job, worker.shown, worker.begun = job, "", time.monotonic()
    worker.before = _memory(worker.process.pid)
    worker.pipe.send(job)


def _look(worker: Worker, seconds: float, memory: int) -> Verdict | None:
    """How the worker's input ended; None while it goes on."""
    if worker.job is None:
        return None
    if worker.pipe.poll():
        try:
            found: Verdict | str = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join()
            return _lost(worker, f"the process died with status {worker.process.exitcode}")
        if isinstance(found, str):  # what is about to be tried
            worker.shown, worker.begun = found, time.monotonic()
            return None
        if found.grown > memory:
            return replace(found, result="failed", detail=f"took {found.grown >> 20} MiB")
        return found
    if time.monotonic() - worker.begun > (seconds if worker.shown else MAKING_SECONDS):
        return _lost(worker, f"hangs: no answer after {seconds:g} s")
    grown = _memory(worker.process.pid) - worker.before
    return _lost(worker, f"took more than {grown >> 20} MiB") if grown > memory else None


def _lost(worker: Worker, detail: str) -> Verdict:
    worker.process.kill()
    worker.process.join()
    return Verdict(
        result="failed", detail=detail, shown=worker.shown, seconds=time.monotonic() - worker.begun
    )


def _memory(pid: int, field: str = "VmRSS:") -> int:
    """Bytes of memory of a process, as Linux counts them; 0 elsewhere, where nothing counts."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(field)), 0)


def _work(pipe: Connection, folder: str) -> None:
    streams = _captured(folder)
    _prepared()
    pipe.send("ready")
    while True:
        kind, seed = pipe.recv()
        try:
            pipe.send(tried(kind, seed, folder, streams, pipe.send))
        except Exception:
            wrong = f"no input was made: {traceback.format_exc()}"
            pipe.send(Verdict(result="failed", detail=wrong, shown=""))


def tried(kind: str, seed: int, folder: str, streams: Streams, say: Callable[[str], None]) -> Verdict:
    """Make one input in a folder of its own, say what it is, and judge what theriac answers."""
    place = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=folder))
    home = Path.cwd()
    os.chdir(place)
    make: Kind = importlib.import_module(f"theriac.tests.fuzz.{KINDS[kind]}").case
    try:
        case = make(random.Random(f"{kind} {seed}"), place, partial(command, streams=streams.since))
        say(case.shown)
        _forget_peak()
        before, begun = _memory(os.getpid()), time.monotonic()
        verdict = judged(case)
        grown = _memory(os.getpid(), "VmHWM:") - before
        return replace(verdict, seconds=time.monotonic() - begun, grown=grown)
    finally:
        os.chdir(home)
        shutil.rmtree(place, ignore_errors=True)


def _forget_peak() -> None:
    """Let Linux count the peak of memory from here on."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


class Streams:
    """Everything written to stdout and stderr of this process, Python's or not."""

    def __init__(self, out: Path, err: Path) -> None:
        self._paths, self._seen = (out, err), [0, 0]

    def since(self) -> tuple[str, str]:
        """What came since this was last called."""
        sys.stdout.flush()
        sys.stderr.flush()
        texts = []
        for number, path in enumerate(self._paths):
            data = path.read_bytes()
            texts.append(data[self._seen[number] :].decode(errors="surrogateescape"))
            self._seen[number] = len(data)
        return texts[0], texts[1]


def _captured(folder: str) -> Streams:
    paths = [Path(folder) / f"{name}-{os.getpid()}" for name in ("out", "err")]
    for number, path in zip((1, 2), paths, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout, sys.stderr = _text(1), _text(2)
    return Streams(*paths)


def _text(number: int) -> TextIO:
    return open(number, "w", encoding="utf-8", errors="replace", closefd=False)


def _prepared() -> None:
    """As `theriac` begins, on one thread, without the network and without waiting for anybody."""
    from theriac.cluster import cli
    from theriac.cluster.commands.messages import Warnings

    logging.basicConfig(level=logging.WARNING, handlers=[Warnings(cli._say)], force=True)
    warnings.simplefilter("ignore")
    os.environ.update(PYTHONWARNINGS="ignore", HF_HUB_OFFLINE="1", THERIAC_DATA="/nowhere", COLUMNS="100")
    import torch

    torch.set_num_threads(1)
