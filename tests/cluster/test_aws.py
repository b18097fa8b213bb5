"""The provider against an imitation of AWS in this process: what it asks for, and takes away."""

from __future__ import annotations

import json
import stat
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import boto3
import pytest
from moto import mock_aws
from moto.ssm.models import Parameter, ssm_backends
from ray.autoscaler._private import providers
from ray.autoscaler._private.autoscaler import StandardAutoscaler
from ray.autoscaler._private.aws import config as ray_aws
from ray.autoscaler._private.aws import node_provider as ray_provider
from ray.autoscaler._private.aws import utils as ray_utils
from ray.autoscaler._private.commands import _bootstrap_config, _set_up_config_for_head_node
from ray.autoscaler._private.load_metrics import LoadMetrics
from ray.autoscaler.tags import NODE_KIND_HEAD, NODE_KIND_WORKER

from cluster import account, aws
from cluster.errors import ClusterError
from cluster.group import SSH_PORT
from cluster.overlay import compose
from cluster.prices import cost_per_hour

pytestmark = pytest.mark.slow

BASE = Path(__file__).parents[2] / "cluster" / "gpu.yaml"
REGION = "us-west-2"
ACCOUNT = "123456789012"  # moto's
SOURCES = {
    "IpRanges": "CidrIp", "Ipv6Ranges": "CidrIpv6",
    "UserIdGroupPairs": "GroupId", "PrefixListIds": "PrefixListId",
}  # fmt: skip
HERE, ELSEWHERE = "198.51.100.7/32", "203.0.113.9/32"


@pytest.fixture
def managed_policies() -> None:
    """Lets Ray make its role for heads; to load AWS's policies takes moto seconds."""


@pytest.fixture(autouse=True)
def account_of_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[None]:
    """An empty AWS account, a home folder and a temporary folder of the test's own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KDGAN_SSH_FROM", HERE)
    fresh = "managed_policies" in request.fixturenames
    monkeypatch.setenv("MOTO_IAM_LOAD_MANAGED_POLICIES", "true" if fresh else "false")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    for name in ("AWS_PROFILE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(account, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(ray_aws.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(ray_provider, "list_ec2_instances", _instance_types)
    with mock_aws():
        _forget_clients()
        _publish_images()
        if not fresh:
            have_role()
        yield
    _forget_clients()


def _forget_clients() -> None:
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


def _publish_images(offset: int = 0) -> None:
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


@pytest.mark.usefixtures("managed_policies")
def test_head_and_spot_worker_are_asked_for_as_they_should_be() -> None:
    up(compose(BASE))
    found = instances()
    assert set(found) == {"head", "worker"}
    groups = {group["GroupId"] for node in found.values() for group in node["SecurityGroups"]}
    assert len(groups) == 1
    (group,) = groups
    assert open_ports(group) == {("tcp", SSH_PORT, HERE), ("-1", None, group)}
    assert found["worker"]["InstanceLifecycle"] == "spot"
    assert "InstanceLifecycle" not in found["head"]
    assert found["head"]["InstanceType"] == "m6i.large"
    assert found["worker"]["InstanceType"] == "g6.xlarge"
    assert found["head"]["ImageId"] != found["worker"]["ImageId"]
    for node in found.values():
        assert node["MetadataOptions"]["HttpTokens"] == "required"
        assert tags_of(node)["ray-cluster-name"] == "kdgan"
        assert tags_of(node)["project"] == "kdgan"
        (disk,) = node["BlockDeviceMappings"]
        (volume,) = ec2().describe_volumes(VolumeIds=[disk["Ebs"]["VolumeId"]])["Volumes"]
        assert volume["Encrypted"]
        assert tags_of(volume)["ray-cluster-name"] == "kdgan"


def test_nothing_in_the_account_is_open_to_everybody() -> None:
    up(compose(BASE))
    for group in ec2().describe_security_groups()["SecurityGroups"]:
        assert not {"0.0.0.0/0", "::/0"} & {source for *_, source in open_ports(group["GroupId"])}


def test_on_demand_workers_are_no_spot_instances() -> None:
    up(compose(BASE, ["on-demand"]))
    assert "InstanceLifecycle" not in instances()["worker"]


def test_one_big_machine_needs_no_worker() -> None:
    up(compose(BASE, ["multi-gpu"]))
    assert {name: node["InstanceType"] for name, node in instances().items()} == {
        "head": "g6.12xlarge"
    }


def test_a_new_address_replaces_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose(BASE)
    up(config)
    group = instances()["head"]["SecurityGroups"][0]["GroupId"]
    # A door that somebody has left open by hand is shut too.
    everybody = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}
    ec2().authorize_security_group_ingress(
        GroupId=group, IpPermissions=[{**everybody, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    )
    monkeypatch.setenv("KDGAN_SSH_FROM", ELSEWHERE)
    up(config)
    assert open_ports(group) == {("tcp", SSH_PORT, ELSEWHERE), ("-1", None, group)}
    assert len(instances()) == 2  # none was added


def test_connecting_from_a_new_address_opens_the_door(monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose(BASE)
    with pytest.raises(ClusterError, match="bring it up first"):
        aws.open_door(config)
    up(config)
    group = instances()["head"]["SecurityGroups"][0]["GroupId"]
    monkeypatch.setenv("KDGAN_SSH_FROM", f"{ELSEWHERE},2001:db8::/48")
    assert aws.open_door(config) == ["2001:db8::/48", ELSEWHERE]
    assert {source for *_, source in open_ports(group)} == {ELSEWHERE, "2001:db8::/48", group}


def test_without_an_address_nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose(BASE)
    monkeypatch.setenv("KDGAN_SSH_FROM", "0.0.0.0/0")
    with pytest.raises(ClusterError, match="KDGAN_SSH_FROM"):
        up(config)
    assert aws.leftovers(config) == []


def test_a_group_of_somebody_else_is_not_taken() -> None:
    config = compose(BASE)
    (vpc,) = ec2().describe_vpcs()["Vpcs"]
    theirs = ec2().create_security_group(GroupName="kdgan", Description="…", VpcId=vpc["VpcId"])
    with pytest.raises(ClusterError, match="give this one another name"):
        up(config)
    assert open_ports(theirs["GroupId"]) == set()


def test_storage_is_encrypted_and_every_node_learns_where_it_is() -> None:
    ready = up(compose(BASE))
    efs = boto3.client("efs", region_name=REGION)
    (storage,) = efs.describe_file_systems()["FileSystems"]
    identity = storage["FileSystemId"]
    assert storage["Encrypted"]
    assert tags_of(storage)["ray-cluster-name"] == "kdgan"
    for name in ("head_setup_commands", "worker_setup_commands"):
        assert len(ready[name]) == 1, name
        for command in ready[name]:
            assert command.startswith(f"export KDGAN_EFS={identity}.efs.{REGION}.amazonaws.com; ")
    targets = efs.describe_mount_targets(FileSystemId=identity)["MountTargets"]
    zones = {target["AvailabilityZoneName"] for target in targets}
    subnets = ready["available_node_types"]["worker"]["node_config"]["SubnetIds"]
    described = ec2().describe_subnets(SubnetIds=subnets)["Subnets"]
    assert zones == {subnet["AvailabilityZone"] for subnet in described}
    group = instances()["head"]["SecurityGroups"][0]["GroupId"]
    for target in targets:
        answer = efs.describe_mount_target_security_groups(MountTargetId=target["MountTargetId"])
        assert answer["SecurityGroups"] == [group]


def test_token_and_key_are_private_and_mounted(tmp_path: Path) -> None:
    ready = up(compose(BASE))
    token = tmp_path / ".ray" / "auth_token"
    key = tmp_path / ".ssh" / f"kdgan-{REGION}.pem"
    assert ready["file_mounts"]["~/.ray/auth_token"] == str(token)
    assert ready["file_mounts"]["~/kdgan"] == str(BASE.parents[1])
    assert ready["auth"]["ssh_private_key"] == str(key)
    for file in (token, key):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert file.read_text().strip()


def test_a_key_without_its_other_half_is_refused(tmp_path: Path) -> None:
    config = compose(BASE)
    up(config)
    key = tmp_path / ".ssh" / f"kdgan-{REGION}.pem"
    text = key.read_text()
    key.unlink()
    with pytest.raises(ClusterError, match="not on this machine"):
        up(config)
    key.write_text(text)
    ec2().delete_key_pair(KeyName=f"kdgan-{REGION}")
    with pytest.raises(ClusterError, match="delete the file"):
        up(config)


def test_a_running_cluster_keeps_its_images() -> None:
    config = compose(BASE)
    first = up(config)["available_node_types"]["head"]["node_config"]["ImageId"]
    _publish_images(offset=2)
    assert up(config)["available_node_types"]["head"]["node_config"]["ImageId"] == first
    down(config)
    assert up(config)["available_node_types"]["head"]["node_config"]["ImageId"] != first


def test_ray_keeps_no_configuration_of_yesterday(tmp_path: Path) -> None:
    up(compose(BASE))
    assert not list(tmp_path.glob("ray-config-*"))


def test_what_runs_is_known_with_its_cost() -> None:
    config = compose(BASE)
    assert aws.running_machines(config) == []
    up(config, workers=2)
    machines = aws.running_machines(config)
    assert [(m.node_type, m.instance_type, m.spot) for m in machines] == [
        ("head", "m6i.large", False), ("worker", "g6.xlarge", True), ("worker", "g6.xlarge", True),
    ]  # fmt: skip
    cost = cost_per_hour([(m.instance_type, m.spot) for m in machines], REGION)
    assert cost.usd == pytest.approx(0.096 + 2 * 0.4394)


def test_nothing_is_left_after_all() -> None:
    config = compose(BASE)
    up(config)
    kinds = {found.kind for found in aws.leftovers(config)}
    assert kinds == {"instance", "volume", "security group", "file system", "key pair"}
    with pytest.raises(ClusterError, match="still running: i-"):
        aws.close_all(config, delete_storage=True)
    down(config)
    assert aws.close_all(config, delete_storage=True) == []
    assert aws.leftovers(config) == []


def test_the_autoscaler_on_the_head_brings_workers_and_takes_them_away(tmp_path: Path) -> None:
    ready = up(compose(BASE), workers=0)
    provider = providers._get_node_provider(ready["provider"], ready["cluster_name"])
    _, file = _set_up_config_for_head_node(ready, provider, no_restart=False)
    on_head = json.loads(Path(file.name).read_text())
    # Launched before update() returns, and no ssh to machines that are none.
    on_head["provider"] |= {"foreground_node_launch": True, "disable_node_updaters": True}
    for folder in ("kdgan", "ray_bootstrap_key.pem"):  # what is on the head, here this home
        (tmp_path / folder).touch()
    load = LoadMetrics()
    autoscaler = StandardAutoscaler(
        lambda: on_head, load, MagicMock(), max_failures=0, update_interval_s=0
    )
    trials = [{"CPU": 1, "GPU": 0.25}] * 4  # one GPU's
    head = instances()["head"]["PrivateIpAddress"]
    load.update(head, b"head", {"CPU": 0}, {"CPU": 0}, 0.0, waiting_bundles=trials)
    autoscaler.update()
    machines = aws.running_machines(ready)
    assert [(machine.node_type, machine.spot) for machine in machines] == [
        ("head", False), ("worker", True),
    ]  # fmt: skip
    idle = 60.0 * ready["idle_timeout_minutes"] + 1.0
    load.update(head, b"head", {"CPU": 0}, {"CPU": 0}, 0.0)
    resources = {"CPU": 4, "GPU": 1}
    worker = instances()["worker"]["PrivateIpAddress"]
    load.update(worker, b"worker", resources, resources, idle)
    autoscaler.update()
    assert [machine.node_type for machine in aws.running_machines(ready)] == ["head"]


def test_storage_outlives_the_cluster_and_is_found_again() -> None:
    config = compose(BASE)
    up(config)
    down(config)
    (left,) = aws.close_all(config, delete_storage=False)
    assert left.kind == "file system"
    efs = boto3.client("efs", region_name=REGION)
    assert efs.describe_mount_targets(FileSystemId=left.identity)["MountTargets"] == []
    ready = up(config)
    assert f"KDGAN_EFS={left.identity}." in ready["head_setup_commands"][0]


def test_another_cluster_in_the_account_is_left_alone() -> None:
    config = compose(BASE)
    other = {**compose(BASE), "cluster_name": "other"}
    other["provider"] = {**other["provider"], "security_group": {"GroupName": "other"}}
    up(config)
    up(other)
    before = aws.leftovers(other)
    assert not set(before) & set(aws.leftovers(config))
    down(config)
    assert aws.close_all(config, delete_storage=True) == []
    assert aws.leftovers(other) == before


def test_without_credentials_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it remembers them
    _forget_clients()
    with pytest.raises(ClusterError, match="no AWS credentials"):
        up(compose(BASE))
