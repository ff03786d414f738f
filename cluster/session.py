"""A local Ray that listens on the loopback only and keeps its noise to itself."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from ..errors import BadInput

OBJECT_STORE_BYTES = 128 << 20
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}


@contextmanager
def local_ray(workers: int, *, verbose: bool = False) -> Iterator[None]:
    """A Ray instance of this process with ``workers`` CPUs; one that already runs here is used and left up.

    Args:
        workers: CPUs to offer, at least 1; more than the machine has is allowed.
        verbose: let Ray and the workers log to stderr.

    Raises:
        BadInput: workers below 1.
    """
    if workers < 1:
        raise BadInput(f"{workers} workers: give 1 or more")
    if ray.is_initialized():
        yield
        return
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    ray.init(
        address="local",
        num_cpus=workers,
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        log_to_driver=verbose,
        logging_level=logging.INFO if verbose else logging.ERROR,
        _node_ip_address="127.0.0.1",
    )
    try:
        yield
    finally:
        ray.shutdown()
