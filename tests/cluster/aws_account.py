"""AWS's imitation in this process, an account of it for a test, and Ray's part in `ray up`."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.ssm.models import Parameter, ssm_backends
from ray.autoscaler._private import providers
from ray.autoscaler._private.aws import config as ray_aws
from ray.autoscaler._private.aws import node_provider as ray_provider
from ray.autoscaler._private.aws import utils as ray_utils
from ray.autoscaler._private.commands import _bootstrap_config
from ray.autoscaler.tags import NODE_KIND_HEAD, NODE_KIND_WORKER

from cluster import account, aws
from cluster.overlay import compose

BASE = Path(__file__).parents[2] / "cluster" / "gpu.yaml"
REGION = "us-west-2"
ACCOUNT = "123456789012"  # moto's
SOURCES = {
    "IpRanges": "CidrIp", "Ipv6Ranges": "CidrIpv6",
    "UserIdGroupPairs": "GroupId", "PrefixListIds": "PrefixListId",
}  # fmt: skip
HERE, ELSEWHERE = "198.51.100.7/32", "203.0.113.9/32"


@contextlib.contextmanager
def account_of_nobody(
    home: Path, monkeypatch: pytest.MonkeyPatch, with_policies: bool = False
) -> Iterator[None]:
    """An empty AWS account, with the folder for a home folder and a temporary folder.

    Args:
        home: the test's own folder.
        monkeypatch: the test's.
        with_policies: let Ray make its role for heads; to load AWS's policies takes moto seconds.
    """
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("KDGAN_SSH_FROM", HERE)
    monkeypatch.setenv("MOTO_IAM_LOAD_MANAGED_POLICIES", str(with_policies).lower())
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    for name in ("AWS_PROFILE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(home))
    monkeypatch.setattr(account, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(ray_aws.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(ray_provider, "list_ec2_instances", _instance_types)
    with mock_aws():
        forget_clients()
        publish_images()
        if not with_policies:
            have_role()
        yield
    forget_clients()


def forget_clients() -> None:
    """Ray keeps clients of an account that is gone."""
    ray_utils.resource_cache.cache_clear()
    ray_utils.client_cache.cache_clear()
    ray_aws._get_subnets_or_die.cache_clear()
    providers._clear_provider_cache()


_list_instance_types = ray_provider.list_ec2_instances


@cache
def _instance_types(region: str, credentials: None) -> list[dict[str, Any]]:
    """All types of machines; moto needs seconds to say, and it does not depend on the account."""
    return list(_list_instance_types(region, credentials))


@cache
def _images() -> list[str]:
    return [image["ImageId"] for image in ec2().describe_images()["Images"]]


def publish_images(offset: int = 0) -> None:
    """AWS's public parameters, which moto lacks and nobody may put."""
    images = _images()
    backend = ssm_backends[ACCOUNT][REGION]
    node_types = compose(BASE)["available_node_types"]
    for number, node_type in enumerate(node_types.values()):
        name = node_type["node_config"]["ImageId"].removeprefix(aws.NEWEST)
        backend._parameters[name] = [
            Parameter(
                ACCOUNT, name, images[number + offset], "String", None, None, None, None, 1, "text"
            )
        ]


def ec2() -> Any:
    return boto3.client("ec2", region_name=REGION)


def have_role() -> None:
    """Ray's role for heads, as an account has it that Ray was used in."""
    iam = boto3.client("iam", region_name=REGION)
    name = ray_aws.DEFAULT_RAY_IAM_ROLE
    iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)


def up(config: dict[str, Any], workers: int = 1) -> dict[str, Any]:
    """What `ray up` does up to its first ssh, and the autoscaler once trials wait."""
    ready = _bootstrap_config(config)
    provider = providers._get_node_provider(ready["provider"], ready["cluster_name"])
    node_types = ready["available_node_types"]
    counts = {name: workers for name in node_types if name != ready["head_node_type"]}
    head = {"ray-node-type": NODE_KIND_HEAD, "ray-user-node-type": "head"}
    if not provider.non_terminated_nodes(dict(head)):
        request = {**ready["head_node"], **node_types["head"]["node_config"]}
        provider.create_node(request, {**head, "ray-launch-config": "0"}, 1)
        for name, count in counts.items():
            tags = {"ray-node-type": NODE_KIND_WORKER, "ray-user-node-type": name}
            request = node_types[name]["node_config"]
            for _ in range(count):  # moto makes one spot instance, however many are asked for
                provider.create_node(request, {**tags, "ray-launch-config": "0"}, 1)
    return ready


def down(config: dict[str, Any]) -> None:
    """What `ray down` does."""
    ready = _bootstrap_config(config)
    provider = providers._get_node_provider(ready["provider"], ready["cluster_name"])
    provider.terminate_nodes(provider.nodes_for_teardown({}))


def instances() -> dict[str, Any]:
    """Every instance that there is, by its node type."""
    found = {}
    for reservation in ec2().describe_instances()["Reservations"]:
        for instance in reservation["Instances"]:
            if instance["State"]["Name"] != "terminated":
                found[tags_of(instance)["ray-user-node-type"]] = instance
    return found


def tags_of(found: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in found["Tags"]}


def open_ports(group: str) -> set[tuple[str, int | None, str]]:
    """What a group lets in."""
    described = ec2().describe_security_groups(GroupIds=[group])["SecurityGroups"][0]
    found = set()
    for permission in described["IpPermissions"]:
        for kind, key in SOURCES.items():
            for source in permission.get(kind, []):
                port = None if permission["IpProtocol"] == "-1" else permission["FromPort"]
                found.add((permission["IpProtocol"], port, source[key]))
    return found
