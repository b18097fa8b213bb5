"""The cluster's shared storage on AWS: one encrypted EFS file system, reached by its nodes only.

EFS and not S3: every trial appends to a spool file and syncs it, and drivers lock files so that
one sweep has one driver. EFS is NFS 4.1, which appends, syncs and locks; an object in S3 can only
be written anew as a whole, and knows no lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from botocore.exceptions import ClientError

from cluster.account import CLUSTER_TAG, client, cluster_tags, wait_until


def find_file_system(config: dict[str, Any]) -> dict[str, Any] | None:
    """The cluster's file system as EFS describes it, by its tag; None if there is none."""
    for page in client(config, "efs").get_paginator("describe_file_systems").paginate():
        for found in page["FileSystems"]:
            tags = {tag["Key"]: tag["Value"] for tag in found["Tags"]}
            gone = found["LifeCycleState"] == "deleted"
            if tags.get(CLUSTER_TAG) == config["cluster_name"] and not gone:
                return dict(found)
    return None


def ensure_file_system(config: dict[str, Any], subnets: Sequence[str], group: str) -> str:
    """The host name to mount, once the file system can be reached from each of the subnets.

    Args:
        config: the cluster's.
        subnets: ids of all that nodes may be in.
        group: id of the cluster's security group, the only one let in.

    Raises:
        ClusterError: it does not become available.
    """
    efs = client(config, "efs")
    found = find_file_system(config) or efs.create_file_system(
        # The same request twice, from two terminals, makes one.
        CreationToken=f"kdgan-{config['cluster_name']}"[:64],
        Encrypted=True,
        # Of the other kind, a file system with little in it gets little.
        ThroughputMode="elastic",
        Tags=cluster_tags(config),
    )
    identity = found["FileSystemId"]
    wait_until(lambda: _state(efs, identity) == "available", f"the file system {identity}")
    for subnet in _one_for_each_zone(config, subnets):
        _ensure_mount_target(efs, identity, subnet, group)
    for target in _mount_targets(efs, identity):
        efs.modify_mount_target_security_groups(
            MountTargetId=target["MountTargetId"], SecurityGroups=[group]
        )
    wait_until(
        lambda: all(m["LifeCycleState"] == "available" for m in _mount_targets(efs, identity)),
        f"the mount targets of {identity}",
    )
    region = config["provider"]["region"]
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"{identity}.efs.{region}.{suffix}"


def remove_mount_targets(config: dict[str, Any]) -> None:
    """Nothing reaches the file system any more; what it holds stays.

    They hold the cluster's security group, which cannot be deleted while they are there.
    """
    found = find_file_system(config)
    if found is None:
        return
    efs, identity = client(config, "efs"), found["FileSystemId"]
    for target in _mount_targets(efs, identity):
        efs.delete_mount_target(MountTargetId=target["MountTargetId"])
    wait_until(lambda: not _mount_targets(efs, identity), f"the mount targets of {identity} to go")


def delete_file_system(config: dict[str, Any]) -> None:
    """The file system and all that it holds are gone."""
    remove_mount_targets(config)
    found = find_file_system(config)
    if found is not None:
        client(config, "efs").delete_file_system(FileSystemId=found["FileSystemId"])
        wait_until(lambda: find_file_system(config) is None, f"{found['FileSystemId']} to go")


def _ensure_mount_target(efs: Any, identity: str, subnet: str, group: str) -> None:
    try:
        efs.create_mount_target(FileSystemId=identity, SubnetId=subnet, SecurityGroups=[group])
    except ClientError as error:
        if error.response["Error"]["Code"] != "MountTargetConflict":  # its zone has one
            raise


def _one_for_each_zone(config: dict[str, Any], subnets: Sequence[str]) -> list[str]:
    described = client(config, "ec2").describe_subnets(SubnetIds=sorted(set(subnets)))["Subnets"]
    by_zone: dict[str, str] = {}
    for subnet in sorted(described, key=lambda found: str(found["SubnetId"])):
        by_zone.setdefault(subnet["AvailabilityZone"], subnet["SubnetId"])
    return list(by_zone.values())


def _mount_targets(efs: Any, identity: str) -> list[dict[str, Any]]:
    return list(efs.describe_mount_targets(FileSystemId=identity)["MountTargets"])


def _state(efs: Any, identity: str) -> str:
    found = efs.describe_file_systems(FileSystemId=identity)["FileSystems"]
    return str(found[0]["LifeCycleState"])
