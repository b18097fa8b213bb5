"""Every configuration passes Ray's validation and ours; ours finds each thing that it is for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from ray.autoscaler._private.util import prepare_config, validate_config

from cluster.check import check_cluster
from cluster.errors import ClusterError
from cluster.overlay import compose

CLUSTER = Path(__file__).parents[2] / "cluster"
BASES = sorted(
    path.name for path in CLUSTER.glob("*.yaml") if not path.name.endswith(".composed.yaml")
)
OVERLAYS = sorted(path.stem for path in (CLUSTER / "overlays").glob("*.yaml"))
# multi-gpu takes away the workers, so what changes them has to come before it.
COMBINATIONS = [
    ("gpu.yaml", list(chosen))
    for count in range(1, len(OVERLAYS) + 1)
    for chosen in permutations(OVERLAYS, count)
    if "multi-gpu" not in chosen[:-1]
]
LOCAL: dict[str, Any] = {
    "cluster_name": "own",
    "provider": {"type": "local", "head_ip": "10.0.0.1", "worker_ips": ["10.0.0.2"]},
    "auth": {"ssh_user": "me"},
    "file_mounts": {"~/.ray/auth_token": "~/.ray/auth_token"},
    "setup_commands": ["KDGAN_STORAGE=/shared bash ~/kdgan/cluster/setup_node.sh"],
    "head_start_ray_commands": [
        "RAY_enable_autoscaler_v2=0 RAY_AUTH_MODE=token ray start --head"
        " --dashboard-host=127.0.0.1 --autoscaling-config=~/ray_bootstrap_config.yaml"
    ],
    "worker_start_ray_commands": ["RAY_AUTH_MODE=token ray start --address=$RAY_HEAD_IP:6379"],
}


@pytest.mark.parametrize(("base", "overlays"), [*((base, []) for base in BASES), *COMBINATIONS])
def test_every_configuration_is_fine(base: str, overlays: list[str]) -> None:
    config = compose(CLUSTER / base, overlays)
    assert check_cluster(config) == []
    validate_config(prepare_config(copy.deepcopy(config)))


@pytest.mark.parametrize("base", BASES)
def test_what_git_leaves_out_is_not_copied_to_the_machines(base: str) -> None:
    """An environment of gigabytes in the checkout, as CI has one, would go to each of them."""
    ignored = (CLUSTER.parent / ".gitignore").read_text().split()
    names = {line.strip("/") for line in ignored} - {"cluster/*.composed.yaml"}
    assert names <= set(compose(CLUSTER / base)["rsync_exclude"])


def test_the_composed_configurations_are_seen() -> None:
    assert "gpu.yaml" in BASES
    assert {"multi-gpu", "on-demand"} <= set(OVERLAYS)


def test_workers_that_are_gone_cannot_be_changed() -> None:
    with pytest.raises(ClusterError, match=r"on-demand\.yaml takes away 'InstanceMarketOptions'"):
        compose(CLUSTER / "gpu.yaml", ["multi-gpu", "on-demand"])


def test_one_s_own_machines_need_no_cloud() -> None:
    assert check_cluster(LOCAL) == []


Change = Callable[[dict[str, Any]], object]


def worker(config: dict[str, Any]) -> dict[str, Any]:
    node_types: dict[str, dict[str, Any]] = config["available_node_types"]
    return node_types["worker"]


def head_start(old: str, new: str) -> Change:
    def change(config: dict[str, Any]) -> None:
        commands = config["head_start_ray_commands"]
        assert any(old in command for command in commands)
        config["head_start_ray_commands"] = [c.replace(old, new) for c in commands]

    return change


def worker_start(old: str, new: str) -> Change:
    def change(config: dict[str, Any]) -> None:
        commands = config["worker_start_ray_commands"]
        assert any(old in command for command in commands)
        config["worker_start_ray_commands"] = [c.replace(old, new) for c in commands]

    return change


# For any provider.
COMMON: dict[str, tuple[Change, str]] = {
    "a key that Ray does not know": (lambda c: c.update(max_worker=3), "unknown key 'max_worker'"),
    "no token": (lambda c: c["file_mounts"].pop("~/.ray/auth_token"), "the token is missing"),
    "a head without authentication": (
        head_start("RAY_AUTH_MODE=token", ""), "head_start_ray_commands: `ray start` without",
    ),
    "a worker without authentication": (
        worker_start("RAY_AUTH_MODE=token", "RAY_AUTH_MODE=disabled"),
        "worker_start_ray_commands: `ray start` without",
    ),
    "authentication that comes too late": (
        lambda c: c.update(worker_start_ray_commands=["ray start; export RAY_AUTH_MODE=token"]),
        "worker_start_ray_commands: `ray start` without",
    ),
    "no head at all": (
        lambda c: c.update(head_start_ray_commands=["ray stop"]),
        "head_start_ray_commands: no `ray start`",
    ),
    "a dashboard for everybody": (
        head_start("--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0"), "not 0.0.0.0",
    ),
    "a dashboard wherever Ray puts it": (
        head_start("--dashboard-host=127.0.0.1", ""), "not left out",
    ),
    "autoscaler v2": (
        head_start("RAY_enable_autoscaler_v2=0", ""), "RAY_enable_autoscaler_v2=0 is missing",
    ),
    "no autoscaler": (
        head_start("--autoscaling-config=~/ray_bootstrap_config.yaml", ""), "starts no worker",
    ),
    "nodes that are not set up": (
        lambda c: c.update(setup_commands=["KDGAN_STORAGE=/shared true"]),
        "setup_node.sh is missing",
    ),
    "a provider of Ray's": (
        lambda c: c["provider"].update(type="aws"), "Ray's own for AWS lets everybody try ssh",
    ),
}  # fmt: skip
# For AWS.
CLOUD: dict[str, tuple[Change, str]] = {
    "a wrong key in node_config": (
        lambda c: worker(c)["node_config"].update(InstanceTyp="g6.xlarge"),
        'worker: node_config: Unknown parameter in input: "InstanceTyp"',
    ),
    "a wrong key deep in node_config": (
        lambda c: worker(c)["node_config"]["InstanceMarketOptions"].update(MarketTyp="spot"),
        'Unknown parameter in InstanceMarketOptions: "MarketTyp"',
    ),
    "a wrong kind in node_config": (
        lambda c: worker(c)["node_config"]["BlockDeviceMappings"][0]["Ebs"].update(VolumeSize="9"),
        "Invalid type for parameter BlockDeviceMappings[0].Ebs.VolumeSize",
    ),
    "a count in node_config": (
        lambda c: worker(c)["node_config"].update(MinCount=2), "MinCount is Ray's to say",
    ),
    "another provider": (
        lambda c: c["provider"].update(module="other.Provider"), "is not checked here",
    ),
    "no security group": (
        lambda c: c["provider"].pop("security_group"), "security_group: {GroupName: …} is missing",
    ),
    "ssh from everywhere": (
        lambda c: c["provider"]["security_group"].update(
            IpPermissions=[{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22,
                            "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
        ),
        "lets in the whole internet",
    ),
    "ssh from everywhere by IPv6": (
        lambda c: c["provider"]["security_group"].update(
            IpPermissions=[{"IpProtocol": "-1", "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}]
        ),
        "lets in the whole internet",
    ),
    "rules that nobody uses": (
        lambda c: c["provider"]["security_group"].update(
            IpPermissions=[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}]
        ),
        "IpPermissions are not used",
    ),
    "a group of the user's": (
        lambda c: worker(c)["node_config"].update(SecurityGroupIds=["sg-1"]),
        "the security group is the provider's",
    ),
    "no storage": (lambda c: c["provider"].pop("storage"), "no shared storage"),
    "stopped machines are kept": (
        lambda c: c["provider"].pop("cache_stopped_nodes"), "cache_stopped_nodes: false",
    ),
    "idle machines are kept": (lambda c: c.pop("idle_timeout_minutes"), "idle_timeout_minutes"),
    "a disk in the clear": (
        lambda c: worker(c)["node_config"]["BlockDeviceMappings"][0]["Ebs"].pop("Encrypted"),
        "worker: a disk is not encrypted",
    ),
    "the image's disk": (
        lambda c: worker(c)["node_config"].pop("BlockDeviceMappings"), "a disk is not encrypted",
    ),
    "old metadata service": (
        lambda c: worker(c)["node_config"]["MetadataOptions"].update(HttpTokens="optional"),
        "HttpTokens: required",
    ),
    "workers that wait": (lambda c: worker(c).update(min_workers=2), "min_workers 2 cost while"),
}  # fmt: skip


@pytest.mark.parametrize("name", COMMON)
@pytest.mark.parametrize("kind", ["cloud", "local"])
def test_what_is_wrong_anywhere_is_found(kind: str, name: str) -> None:
    config = compose(CLUSTER / "gpu.yaml") if kind == "cloud" else copy.deepcopy(LOCAL)
    change, message = COMMON[name]
    change(config)
    assert any(message in problem for problem in check_cluster(config)), check_cluster(config)


@pytest.mark.parametrize("name", CLOUD)
def test_what_is_wrong_on_aws_is_found(name: str) -> None:
    config = compose(CLUSTER / "gpu.yaml")
    change, message = CLOUD[name]
    change(config)
    problems = check_cluster(config)
    assert len(problems) == 1 and message in problems[0], problems


def test_storage_of_ones_own_must_be_named() -> None:
    config = copy.deepcopy(LOCAL)
    config["setup_commands"] = ["bash ~/kdgan/cluster/setup_node.sh"]
    (problem,) = check_cluster(config)
    assert problem.startswith("no shared storage: set KDGAN_STORAGE=FOLDER")


def test_a_folder_of_ones_own_on_aws_will_do() -> None:
    config = compose(CLUSTER / "gpu.yaml")
    del config["provider"]["storage"]
    config["setup_commands"] = ["KDGAN_STORAGE=/fsx bash ~/kdgan/cluster/setup_node.sh"]
    assert check_cluster(config) == []


def test_workers_that_wait_may_be_meant() -> None:
    config = compose(CLUSTER / "gpu.yaml")
    worker(config)["min_workers"] = 2
    config["metadata"] = {"keep_workers": True}
    assert check_cluster(config) == []


def test_subnets_are_ray_s_own_key() -> None:
    config = compose(CLUSTER / "gpu.yaml")
    worker(config)["node_config"]["SubnetIds"] = ["subnet-1"]
    assert check_cluster(config) == []
