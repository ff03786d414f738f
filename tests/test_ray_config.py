"""ray_config.yaml against Ray's own schema, and the promises its comments make."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())


@pytest.fixture
def config() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "ray_config.yaml").read_text())


def test_schema_accepts_it(config: dict[str, Any]) -> None:
    jsonschema.validate(config, SCHEMA)


def test_schema_would_refuse_a_wrong_one(config: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError, match="worker_ip"):
        jsonschema.validate({**config, "worker_ip": "192.0.2.1"}, SCHEMA)


def test_launcher_accepts_it(config: dict[str, Any]) -> None:
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    (node,) = prepared["available_node_types"].values()
    assert node["min_workers"] == len(config["provider"]["worker_ips"])


def test_dashboard_stays_on_the_loopback(config: dict[str, Any]) -> None:
    (start,) = (line for line in config["head_start_ray_commands"] if "ray start" in line)
    assert "--dashboard-host=127.0.0.1" in start


def test_every_start_asks_for_the_token(config: dict[str, Any]) -> None:
    lines = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    starts = [line for line in lines if "ray start" in line]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in line for line in starts)
    assert "~/.ray/auth_token" in config["file_mounts"]


def test_addresses_are_placeholders(config: dict[str, Any]) -> None:
    """192.0.2.0/24 is reserved for documentation (RFC 5737), so an unchanged file reaches nobody."""
    addresses = [config["provider"]["head_ip"], *config["provider"]["worker_ips"]]
    assert all(address.startswith("192.0.2.") for address in addresses)
