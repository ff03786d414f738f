"""A local Ray that listens on the loopback only and keeps its noise to itself."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants, services, utils, worker

from ..errors import BadInput
from .lifeline import Lifeline
from .names import NAMESPACE
from .scratch import scratch_folder

LOOPBACK = "127.0.0.1"
OBJECT_STORE_BYTES = 128 << 20
ANSWER_SECONDS = 10.0
ATTEMPTS = 3
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray's workers give way to everything else (nice 15): beside another program that uses all cores, they
    # would get a thirtieth of what this process gets
    "RAY_worker_niceness": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # glibc keeps what it takes for blocks below its threshold, which it raises to 32 MiB by itself: in the
    # threads of an actor activations then pile up, in a trial to 8 GB where 0.7 GB do
    "MALLOC_MMAP_THRESHOLD_": str(8 << 20),
}
SESSIONS = "r"
"""A short name: paths of sockets are limited."""
SERVERS = {
    ray_constants.PROCESS_TYPE_RAYLET: "raylet",
    ray_constants.PROCESS_TYPE_GCS_SERVER: "control server (GCS)",
}
TOKEN = "RAY_AUTH_TOKEN"
TOKEN_FILE = "~/.ray/auth_token"
TOKEN_SOURCES = ("RAY_AUTH_MODE", TOKEN, "RAY_AUTH_TOKEN_PATH")

log = logging.getLogger(__name__)


@contextmanager
def ray_session(address: str | None, workers: int, *, verbose: bool = False) -> Iterator[None]:
    """Enter the Ray cluster at ``address``, or a local one with ``workers`` CPUs; see `local_ray`.

    Args:
        address: "auto" for the cluster of this machine, or the address of its head; None: a local Ray.
        workers: CPUs of a local Ray, at least 1.
        verbose: let Ray and the workers log to stderr.

    Raises:
        BadInput: no cluster answers, or workers below 1.
        RayDied: while it was in use.
    """
    if address is None or ray.is_initialized():
        with local_ray(workers, verbose=verbose):
            yield
        return
    _set_defaults(SETTINGS)
    try:
        _check_answers(address)
        ray.init(
            address=address,
            namespace=NAMESPACE,
            log_to_driver=verbose,
            logging_level=logging.INFO if verbose else logging.ERROR,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise BadInput(
            f"no Ray cluster answers at {address!r} ({_first_line(error)}); start one (see "
            f"docs/clusters/README.md), or leave --address out for a local Ray"
        ) from error
    try:
        with Lifeline({}, _belongs(ray.get_runtime_context().get_node_id()), hush=_hush):
            yield
    finally:
        ray.shutdown()


def _belongs(node: str) -> Callable[[], bool]:
    """Make the question whether the cluster counts a node among its own."""

    def ask() -> bool:
        return any(one["NodeID"] == node and one["Alive"] for one in ray.nodes())  # type: ignore[no-untyped-call]

    return ask


def _check_answers(address: str) -> None:
    """Check that a host and port answer.

    Ray itself tries for a quarter of an hour (20 times 40 s) before it gives them up.
    """
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "://" not in address:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def local_ray(workers: int, *, verbose: bool = False) -> Iterator[None]:
    """Start a Ray of this process with ``workers`` CPUs; one that already runs here is used and left up.

    Its servers listen on the loopback and ask for a token: the user's own where there is one, else a new one
    that nobody writes down. Its session folder lies in one that only this user can enter, and is removed at
    the end, or by the next one if this process is killed, unless ``verbose``.

    Args:
        workers: CPUs to offer, at least 1; more than the machine has is allowed.
        verbose: let Ray and the workers log to stderr, and keep the session folder with all logs.

    Raises:
        BadInput: workers below 1, no folder for the session, or Ray does not start.
        RayDied: while it was in use.
    """
    if workers < 1:
        raise BadInput(f"{workers} workers: give 1 or more")
    if ray.is_initialized():
        yield
        return
    _set_defaults(SETTINGS)
    if not _has_token():
        os.environ[TOKEN] = secrets.token_hex(32)
    with scratch_folder("ray", short=True, keep=verbose) as folder, _published_errors(shown=verbose):
        if verbose:
            log.warning("Ray's logs stay in %s", folder)
        try:
            _start_patiently(workers, folder / SESSIONS, verbose)
            with Lifeline(_servers(), hush=_hush):
                yield
        finally:
            ray.shutdown()


@contextmanager
def _published_errors(*, shown: bool) -> Iterator[None]:
    """Show what Ray's servers publish to their drivers, or leave it out.

    When one dies, the last lines of its log can be there before anybody is told that it has died; what
    matters in them the sweep says itself.
    """
    before = worker._worker_logs_enabled
    worker._worker_logs_enabled = before and shown
    try:
        yield
    finally:
        worker._worker_logs_enabled = before


def _servers() -> dict[str, Any]:
    """Find the processes of the local Ray without which nothing goes on."""
    node: Any = ray._private.worker._global_node
    return {name: node.all_processes[kind][0].process for kind, name in SERVERS.items()}


def _hush() -> None:
    """Keep Ray from printing the last lines of the logs of its server, which help nobody."""
    worker._worker_logs_enabled = False


def _start_patiently(workers: int, folder: Path, verbose: bool) -> None:
    """Start Ray; start it again where the machine was so busy that Ray gave up after half a minute.

    Raises:
        BadInput: it does not start.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _start(workers, folder, verbose)
            return
        except Exception as error:  # Ray raises all kinds, plain `Exception` among them
            ray.shutdown()
            if "timed out" in str(error) and attempt < ATTEMPTS:
                continue
            raise BadInput(
                f"a local Ray does not start ({_first_line(error)}); see `theriac doctor --start-ray`"
            ) from error


def _start(workers: int, folder: Path, verbose: bool) -> None:
    """Start Ray, which opens ``folder`` to all users, so that it must lie in one that is not."""
    with _single_machine(), _own_termination(), _own_groups():
        ray.init(
            address="local",
            num_cpus=workers,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            log_to_driver=verbose,
            logging_level=logging.INFO if verbose else logging.ERROR,
            _node_ip_address=LOOPBACK,
            _temp_dir=str(folder),
        )


@contextmanager
def _own_termination() -> Iterator[None]:
    """Keep what this process does at SIGTERM: Ray has it exit with 1. Where that is nothing, Ray's stays."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _own_groups() -> Iterator[None]:
    """Start each of Ray's servers in a process group of its own.

    `timeout`, a shell, or a terminal that is closed asks the whole group of a command to end; Ray would be
    gone before what has begun is done. Where the system does not end the servers with this process, they stay
    in its group: Ray then ends that.
    """
    module: Any = services
    before, ends = module.ConsolePopen, utils.detect_fate_sharing_support()  # type: ignore[no-untyped-call]
    module.ConsolePopen = partial(before, process_group=0) if ends else before
    try:
        yield
    finally:
        module.ConsolePopen = before


@contextmanager
def _single_machine() -> Iterator[None]:
    """Keep Ray on one machine; else it replaces 127.0.0.1 by the outer address, and listens everywhere.

    Ray has the switch for macOS and Windows. It is read from the environment when Ray is imported, which may
    have happened long ago in this process; the processes that Ray starts read it for themselves.
    """
    name, before = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, ray_constants.ENABLE_RAY_CLUSTER
    chosen = os.environ.get(name)
    ray_constants.ENABLE_RAY_CLUSTER, os.environ[name] = False, "0"
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
        os.environ.pop(name) if chosen is None else os.environ.update({name: chosen})


def _set_defaults(values: Mapping[str, str]) -> None:
    for name, value in values.items():
        os.environ.setdefault(name, value)


def _has_token() -> bool:
    """Tell whether Ray will find a token, or was told to do without; else it would write one at home."""
    return any(name in os.environ for name in TOKEN_SOURCES) or os.path.isfile(os.path.expanduser(TOKEN_FILE))
