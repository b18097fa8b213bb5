"""The provider against an imitation of AWS in this process: what it asks for, and opens."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from aws_account import (
    BASE,
    ELSEWHERE,
    HERE,
    REGION,
    account_of_nobody,
    down,
    ec2,
    forget_clients,
    instances,
    open_ports,
    publish_images,
    tags_of,
    up,
)

from cluster import aws
from cluster.errors import ClusterError
from cluster.group import SSH_PORT
from cluster.overlay import compose

pytestmark = pytest.mark.slow


@pytest.fixture
def managed_policies() -> None:
    """Has the account AWS's policies, so that Ray makes its role for heads."""


@pytest.fixture(autouse=True)
def account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[None]:
    """An empty account for every test."""
    with account_of_nobody(tmp_path, monkeypatch, "managed_policies" in request.fixturenames):
        yield


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
    publish_images(offset=2)
    assert up(config)["available_node_types"]["head"]["node_config"]["ImageId"] == first
    down(config)
    assert up(config)["available_node_types"]["head"]["node_config"]["ImageId"] != first


def test_ray_keeps_no_configuration_of_yesterday(tmp_path: Path) -> None:
    up(compose(BASE))
    assert not list(tmp_path.glob("ray-config-*"))


def test_without_credentials_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it remembers them
    forget_clients()
    with pytest.raises(ClusterError, match="no AWS credentials"):
        up(compose(BASE))
