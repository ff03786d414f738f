"""The cluster files against Ray's own schema, its commands and ours, and the promises their comments make."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import cli as ray_cli

ROOT = Path(__file__).resolve().parent.parent
CLUSTERS = ROOT / "docs" / "clusters"
SCHEMA = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
LAUNCHED = [ROOT / "ray_config.yaml", CLUSTERS / "aws.yaml", CLUSTERS / "gcp.yaml"]
SLURM, KUBERAY, DOCKERFILE = CLUSTERS / "slurm.sh", CLUSTERS / "kuberay.yaml", CLUSTERS / "Dockerfile"
FILES = [*LAUNCHED, SLURM, KUBERAY, DOCKERFILE, CLUSTERS / "README.md"]
PLACEHOLDER = re.compile(r"192\.0\.2|0000000|my-project|registry\.example|storageClassName|my_sweep\.yaml  ")
SEPARATORS = {"||", "&", "&&", ">", "--"}
THERIAC = {"sweep", "plan", "status", "table", "plot", "doctor"}  # the commands that the files use


def name_of(path: Path) -> str:
    return path.name


@pytest.fixture(params=LAUNCHED, ids=name_of)
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    return yaml.safe_load(request.param.read_text())


@pytest.fixture
def local() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "ray_config.yaml").read_text())


def test_schema_accepts_it(config: dict[str, Any]) -> None:
    jsonschema.validate(config, SCHEMA)


def test_schema_would_refuse_a_wrong_one(config: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError, match="worker_ip"):
        jsonschema.validate({**config, "worker_ip": "192.0.2.1"}, SCHEMA)


def test_launcher_accepts_it(config: dict[str, Any]) -> None:
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    assert "pip install" not in " ".join(prepared["head_setup_commands"]).replace("~/theriac-env/bin/pip", "")


def test_local_cluster_has_all_machines(local: dict[str, Any]) -> None:
    (node,) = prepare_config(copy.deepcopy(local))["available_node_types"].values()
    assert node["min_workers"] == len(local["provider"]["worker_ips"])


def test_addresses_are_placeholders(local: dict[str, Any]) -> None:
    """192.0.2.0/24 is reserved for documentation (RFC 5737), so an unchanged file reaches nobody."""
    addresses = [local["provider"]["head_ip"], *local["provider"]["worker_ips"]]
    assert all(address.startswith("192.0.2.") for address in addresses)


def test_dashboard_stays_on_the_loopback(config: dict[str, Any]) -> None:
    (start,) = (line for line in config["head_start_ray_commands"] if "ray start" in line)
    assert "--dashboard-host=127.0.0.1" in start


def test_every_start_asks_for_the_token(config: dict[str, Any]) -> None:
    lines = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    starts = [line for line in lines if "ray start" in line]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in line for line in starts)
    assert any("RAY_AUTH_MODE=token" in line for line in config["setup_commands"])


def test_all_ship_the_package_and_the_token_alike(config: dict[str, Any], local: dict[str, Any]) -> None:
    assert config["file_mounts"] == local["file_mounts"]
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert set(local["setup_commands"]) <= set(config["setup_commands"])


@pytest.mark.parametrize("path", LAUNCHED[1:], ids=name_of)
def test_only_workers_are_on_spot_machines(path: Path) -> None:
    types = yaml.safe_load(path.read_text())["available_node_types"]
    spot = {name for name, node in types.items() if re.search("spot", json.dumps(node), re.IGNORECASE)}
    assert spot == {"gpu"}
    assert 0 < types["gpu"]["min_workers"] <= types["gpu"]["max_workers"]


def test_aws_nodes_share_a_closed_group_and_have_a_profile() -> None:
    types = yaml.safe_load(LAUNCHED[1].read_text())["available_node_types"]
    nodes = [node["node_config"] for node in types.values()]
    assert len({node["SecurityGroupIds"][0] for node in nodes}) == 1
    assert all(node["IamInstanceProfile"]["Arn"] for node in nodes)


def test_gcp_nodes_share_a_network_of_their_own() -> None:
    types = yaml.safe_load(LAUNCHED[2].read_text())["available_node_types"]
    nodes = [node["node_config"] for node in types.values()]
    networks = {node["networkInterfaces"][0]["subnetwork"] for node in nodes}
    assert len(networks) == 1
    assert all(node["tags"] == {"items": ["theriac"]} for node in nodes)
    assert types["gpu"]["node_config"]["serviceAccounts"][0]["email"]


@pytest.fixture
def manifests() -> dict[str, dict[str, Any]]:
    return {one["kind"]: one for one in yaml.safe_load_all(KUBERAY.read_text())}


def test_kuberay_job_has_what_the_operator_needs(manifests: dict[str, dict[str, Any]]) -> None:
    job = manifests["RayJob"]
    assert job["apiVersion"] == "ray.io/v1"
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert job["spec"]["shutdownAfterJobFinishes"] is True
    (group,) = cluster["workerGroupSpecs"]
    assert group["minReplicas"] == group["replicas"] == group["maxReplicas"] > 0
    assert all(isinstance(one, str) for one in cluster["headGroupSpec"]["rayStartParams"].values())


def test_kuberay_pods_see_the_shared_volume(manifests: dict[str, dict[str, Any]]) -> None:
    cluster = manifests["RayJob"]["spec"]["rayClusterSpec"]
    images = set()
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        images.add(container["image"])
        claims = {
            one["name"]: one.get("persistentVolumeClaim", {}).get("claimName") for one in pod["volumes"]
        }
        mounted = {claims[one["name"]]: one["mountPath"] for one in container["volumeMounts"]}
        assert {one["name"] for one in container["volumeMounts"]} == set(claims)
        assert mounted[manifests["PersistentVolumeClaim"]["metadata"]["name"]] == "/shared"
    assert len(images) == 1
    assert manifests["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]


def pods(manifests: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """All pods of the job: head, workers, submitter."""
    job = manifests["RayJob"]["spec"]
    cluster = job["rayClusterSpec"]
    groups = (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
    return [*(group["template"]["spec"] for group in groups), job["submitterPodTemplate"]["spec"]]


def test_kuberay_pods_have_no_privileges(manifests: dict[str, dict[str, Any]]) -> None:
    for pod in pods(manifests):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            held = container["securityContext"]
            assert held == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_kuberay_images_are_one_and_named_by_digest(manifests: dict[str, dict[str, Any]]) -> None:
    (image,) = {container["image"] for pod in pods(manifests) for container in pod["containers"]}
    assert re.fullmatch(r"[\w./-]+@sha256:[0-9a-f]{64}", image)


def test_base_image_can_be_named_by_digest() -> None:
    text = DOCKERFILE.read_text()
    assert re.search(r"^ARG BASE=", text, re.MULTILINE)
    assert re.search(r"^FROM \$BASE$", text, re.MULTILINE)
    assert "--build-arg BASE=python@sha256:" in text


def test_kuberay_lets_no_other_namespace_in(manifests: dict[str, dict[str, Any]]) -> None:
    policy = manifests["NetworkPolicy"]["spec"]
    assert policy["podSelector"] == {}
    ((rule),) = policy["ingress"]
    assert all(peer.keys() <= {"podSelector", "namespaceSelector"} for peer in rule["from"])


def test_image_and_manifest_name_the_same_ray(manifests: dict[str, dict[str, Any]]) -> None:
    (pinned,) = re.findall(r"^ARG RAY_VERSION=(\S+)", DOCKERFILE.read_text(), re.MULTILINE)
    assert manifests["RayJob"]["spec"]["rayClusterSpec"]["rayVersion"] == pinned


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_slurm_script_is_shell() -> None:
    subprocess.run(["bash", "-n", SLURM], check=True)


def test_slurm_script_keeps_to_itself() -> None:
    text = SLURM.read_text()
    assert "export RAY_AUTH_MODE=token" in text
    assert "--dashboard-host=127.0.0.1" in text
    for needed in ("--exclusive", "--requeue", "--ntasks-per-node=1"):
        assert f"#SBATCH {needed}\n" in text


def test_slurm_functions_reach_the_nodes() -> None:
    text = SLURM.read_text()
    defined = set(re.findall(r"^(\w+)\(\) \{", text, re.MULTILINE))
    (exported,) = re.findall(r"^export -f (.+)$", text, re.MULTILINE)
    assert set(exported.split()) == defined


@pytest.mark.parametrize("path", FILES[:-1], ids=name_of)
def test_places_to_change_are_marked_in_comments(path: Path) -> None:
    for line in path.read_text().splitlines():
        before, mark, _ = line.partition("CHANGE")
        assert not mark or "#" in before, line


def indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def marked(lines: list[str], number: int) -> bool:
    """Whether CHANGE stands on the line, in the comment right above it, or at the block it belongs to."""
    if "CHANGE" in lines[number]:
        return True
    above = number - 1
    while above >= 0 and lines[above].lstrip().startswith("#"):
        if "CHANGE" in lines[above]:
            return True
        above -= 1
    code = [n for n in range(number) if lines[n].strip() and not lines[n].lstrip().startswith("#")]
    parents = [n for n in code if indent(lines[n]) < indent(lines[number])]
    return bool(parents) and marked(lines, parents[-1])


@pytest.mark.parametrize("path", [*LAUNCHED, KUBERAY, SLURM], ids=name_of)
def test_placeholders_are_marked(path: Path) -> None:
    lines = path.read_text().splitlines()
    places = [
        number
        for number, line in enumerate(lines)
        if not line.lstrip().startswith("#") and PLACEHOLDER.search(line)
    ]
    assert places
    assert [lines[number] for number in places if not marked(lines, number)] == []


def commands(program: str, names: Collection[str]) -> list[list[str]]:
    """All calls ``program NAME ...`` in the files, as lists of words; a word of the shell ends a call."""
    found = []
    for path in FILES:
        text = re.sub(r"\\\n[# ]*", " ", path.read_text())
        text = re.sub(r'"[^"\n]*"', "QUOTED", text)
        for tail in re.findall(
            rf"(?<![\w./:@-])(?:~/theriac-env/bin/)?{program} (?=[a-z])([^\n`';|)]*)", text
        ):
            found.append(tail.split(" # ")[0].split())
    return [call for call in found if call[0] in names]


def options(words: list[str]) -> set[str]:
    """The long options before the next command of the line."""
    until = next((n for n, word in enumerate(words) if word in SEPARATORS), len(words))
    return {word.split("=")[0] for word in words[:until] if word.startswith("--")}


def known_to_theriac(command: str) -> set[str]:
    from theriac.cluster.cli import app

    return {alias for argument in app[command].assemble_argument_collection() for alias in argument.names}


def test_every_option_of_theriac_exists() -> None:
    calls = commands("theriac", THERIAC)
    assert {call[0] for call in calls} == THERIAC
    for name, *words in calls:
        assert options(words) <= known_to_theriac(name), (name, words)


def test_every_sweep_joins_the_cluster() -> None:
    calls = [set(call) for call in commands("theriac", {"sweep"}) if len(call) > 2]
    assert len(calls) == len([*LAUNCHED, SLURM, KUBERAY])
    assert all({"--address", "auto", "--results"} <= call for call in calls)


def known_to_ray(command: str) -> set[str]:
    return {alias for parameter in ray_cli.commands[command].params for alias in parameter.opts}


def test_every_option_of_ray_exists() -> None:
    calls = commands("ray", ray_cli.commands)
    assert {"start", "stop", "up", "down", "exec", "symmetric-run"} <= {call[0] for call in calls}
    for name, *words in calls:
        known = known_to_ray(name) | (known_to_ray("start") if name == "symmetric-run" else set())
        assert options(words) <= known, (name, words)


def test_an_unknown_option_would_be_seen() -> None:
    assert "--dashboard-hosts" not in known_to_ray("start")
    assert options(["--a=1", "x", "--b", "--", "python", "--c"]) == {"--a", "--b"}
