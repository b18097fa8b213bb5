"""What the modules for AWS share: clients, the tag of all that is the cluster's, waiting."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import boto3

from cluster.errors import ClusterError

CLUSTER_TAG = "ray-cluster-name"  # Ray's own, on its instances
POLL_SECONDS = 5.0
WAIT_SECONDS = 300.0  # a mount target takes one or two minutes, an instance's end as long


def client(config: dict[str, Any], service: str) -> Any:
    """A client of an AWS service in the cluster's region, with the configured credentials."""
    provider = config["provider"]
    credentials = provider.get("aws_credentials") or {}
    return boto3.client(service, region_name=provider["region"], **credentials)


def tag_filter(config: dict[str, Any]) -> dict[str, Any]:
    """EC2's filter for what is this cluster's."""
    return {"Name": f"tag:{CLUSTER_TAG}", "Values": [config["cluster_name"]]}


def cluster_tags(config: dict[str, Any]) -> list[dict[str, str]]:
    """The tags of all that is made for this cluster: Ray's, and `provider.tags` of the YAML."""
    own = {CLUSTER_TAG: config["cluster_name"], **config["provider"].get("tags", {})}
    return [{"Key": key, "Value": str(value)} for key, value in own.items()]


def wait_until(done: Callable[[], bool], what: str) -> None:
    """Returns when it is done.

    Raises:
        ClusterError: it takes longer than anything of this kind should.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise ClusterError(f"waited {WAIT_SECONDS:.0f} s in vain for {what}; try again")
        time.sleep(POLL_SECONDS)
