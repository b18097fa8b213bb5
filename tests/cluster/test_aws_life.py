"""A cluster's life in the imitation of AWS: storage, workers that come and go, what is left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import MagicMock

import boto3
import pytest
from aws_account import BASE, REGION, account_of_nobody, down, ec2, instances, tags_of, up
from ray.autoscaler._private import providers
from ray.autoscaler._private.autoscaler import StandardAutoscaler
from ray.autoscaler._private.commands import _set_up_config_for_head_node
from ray.autoscaler._private.load_metrics import LoadMetrics

from cluster import aws
from cluster.errors import ClusterError
from cluster.overlay import compose
from cluster.prices import cost_per_hour

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty account for every test."""
    with account_of_nobody(tmp_path, monkeypatch):
        yield


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
