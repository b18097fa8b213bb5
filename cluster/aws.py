"""Ray's AWS provider, made secure: what `ray up cluster/gpu.yaml` makes, and what remains of it.

Ray's own lets the whole internet try ssh, keeps its token where everybody can read it and knows
nothing of storage. This one is called by Ray (`provider: {type: external, module:
cluster.aws.Provider}`), so that a plain `ray up` is safe, whoever calls it. What Ray does for
`type: aws` alone is made up for here or in the YAML:

* Defaults. For an external provider Ray fills in none of the lists, so the YAML has them all.
* What was chosen is printed for `type: aws` only: `bootstrap_config` prints it.
* Autoscaler v2 has no first-class support for external providers in Ray 2.60 (its `Provider` enum
  does not know them), and would run the set-up commands twice on every worker, since it prepares
  the prepared configuration again. The YAML asks for v1, which has.

CPUs, GPUs and memory of the machines are looked up for external providers too.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from ray.autoscaler._private.aws import config as ray_aws
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import with_envs

from cluster import auth
from cluster.account import client, cluster_tags, tag_filter, wait_until
from cluster.addresses import ssh_addresses
from cluster.efs import (
    delete_file_system,
    ensure_file_system,
    find_file_system,
    remove_mount_targets,
)
from cluster.errors import ClusterError
from cluster.group import delete_group, ensure_group, find_group, set_rules

CODE_MOUNT = "~/kdgan"
NEWEST = "resolve:ssm:"  # an ImageId that names a public parameter, as EC2 spells it
NODE_TYPE_TAG = "ray-user-node-type"
ALIVE = ("pending", "running", "shutting-down", "stopping", "stopped")


class Leftover(NamedTuple):
    """Something of the cluster that still exists."""

    kind: str  # instance, volume, security group, file system or key pair
    identity: str
    state: str

    def __str__(self) -> str:
        return f"{self.kind} {self.identity} ({self.state})"


class Machine(NamedTuple):
    """A machine that runs, and costs."""

    identity: str
    node_type: str  # its name in the YAML
    instance_type: str
    spot: bool


class Provider(AWSNodeProvider):
    """Ray's, with a door, a token, storage and tags of its own."""

    def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]:
        """Ids of the machines with these tags.

        What every command of Ray's asks first, and so where its memory is wiped: it keeps what
        bootstrap_config made in the temporary folder, and does not call it again. A door for
        yesterday's address and ids that are gone are worse than some seconds.
        """
        if kept := self.provider_config.get("_config_cache_path"):
            Path(kept).unlink(missing_ok=True)
        return list(super().non_terminated_nodes(tag_filters))  # type: ignore[no-untyped-call]

    @staticmethod
    def bootstrap_config(cluster_config: dict[str, Any]) -> dict[str, Any]:
        """The configuration with all that AWS needs filled in; what it names exists then.

        Raises:
            ClusterError: there are no credentials, or no address to let in, or AWS refuses.
        """
        try:
            return _bootstrap(copy.deepcopy(cluster_config))
        except NoCredentialsError:
            raise ClusterError(
                "no AWS credentials: run `aws configure`, or set AWS_PROFILE, or"
                " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            ) from None
        except (BotoCoreError, ClientError) as error:
            raise ClusterError(f"AWS refuses: {error}") from error


def open_door(config: dict[str, Any]) -> list[str]:
    """The networks that may now connect by ssh: today's, and no other any more.

    Args:
        config: the cluster's, as in its YAML or bootstrapped.

    Raises:
        ClusterError: the cluster is not there, or the user's address cannot be told.
    """
    group = find_group(config)
    if group is None:
        raise ClusterError(
            f"there is no cluster {config['cluster_name']!r} in {config['provider']['region']}:"
            " bring it up first with `ray up`"
        )
    addresses = ssh_addresses()
    set_rules(config, group, addresses)
    return addresses


def close_all(config: dict[str, Any], delete_storage: bool) -> list[Leftover]:
    """Removes what `ray down` leaves: door, key pair, mount targets. Returns what is still there.

    Args:
        config: the cluster's, as in its YAML or bootstrapped.
        delete_storage: whether the file system goes too, with all the runs in it.

    Raises:
        ClusterError: machines still run, or something will not go.
    """
    running = running_machines(config)
    if running:
        names = ", ".join(machine.identity for machine in running)
        raise ClusterError(f"still running: {names}; `ray down` first")
    wait_until(lambda: not list(_instances(config, ALIVE)), "the machines to be terminated")
    if delete_storage:
        delete_file_system(config)
    else:
        remove_mount_targets(config)
    delete_group(config)
    for key in _key_pairs(config):
        client(config, "ec2").delete_key_pair(KeyName=key["KeyName"])
        _key_file(key["KeyName"]).unlink(missing_ok=True)
    return leftovers(config)


def leftovers(config: dict[str, Any]) -> list[Leftover]:
    """All that carries the cluster's tag and still exists, and so may cost or let in."""
    ec2 = client(config, "ec2")
    found = [
        Leftover("instance", instance["InstanceId"], instance["State"]["Name"])
        for instance in _instances(config, ALIVE)
    ]
    volumes = ec2.get_paginator("describe_volumes").paginate(Filters=[tag_filter(config)])
    found += [
        Leftover("volume", volume["VolumeId"], volume["State"])
        for page in volumes
        for volume in page["Volumes"]
    ]
    groups = ec2.describe_security_groups(Filters=[tag_filter(config)])["SecurityGroups"]
    found += [Leftover("security group", group["GroupId"], group["GroupName"]) for group in groups]
    if (storage := find_file_system(config)) is not None:
        found.append(Leftover("file system", storage["FileSystemId"], storage["LifeCycleState"]))
    found += [Leftover("key pair", key["KeyPairId"], key["KeyName"]) for key in _key_pairs(config)]
    return found


def running_machines(config: dict[str, Any]) -> list[Machine]:
    """The cluster's machines that run or are about to, the head's first."""
    machines = []
    for instance in _instances(config, ("pending", "running")):
        tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
        spot = instance.get("InstanceLifecycle") == "spot"
        node_type = tags.get(NODE_TYPE_TAG, "")
        machines.append(Machine(instance["InstanceId"], node_type, instance["InstanceType"], spot))
    head = config["head_node_type"]
    return sorted(machines, key=lambda machine: (machine.node_type != head, machine.identity))


def _bootstrap(config: dict[str, Any]) -> dict[str, Any]:
    addresses = ssh_addresses()  # before anything is made: it is what may be missing
    config["file_mounts"][auth.MOUNT] = str(auth.ensure_token())
    if config["file_mounts"].get(CODE_MOUNT) == ".":  # wherever `ray up` is called
        config["file_mounts"][CODE_MOUNT] = str(Path(__file__).resolve().parents[1])
    _ensure_key_pair(config)
    _choose_images(config)
    _tag_everything(config)
    # Ray's choice of subnets, made before its choice of a group, which ours replaces: it opens
    # port 22 to everybody in a group that has no rule.
    config = ray_aws._configure_subnet(config)  # type: ignore[no-untyped-call]
    nodes = [node_type["node_config"] for node_type in config["available_node_types"].values()]
    subnets = [subnet for node in nodes for subnet in node["SubnetIds"]]
    described = client(config, "ec2").describe_subnets(SubnetIds=subnets[:1])["Subnets"]
    group = ensure_group(config, described[0]["VpcId"], addresses)
    for node in nodes:
        node["SecurityGroupIds"] = [group]
    if config["provider"].get("storage") == "efs":
        _announce_storage(config, ensure_file_system(config, subnets, group))
    config = ray_aws.bootstrap_aws(config)  # type: ignore[no-untyped-call]
    ray_aws.log_to_cli(config)
    return config


def _announce_storage(config: dict[str, Any], host: str) -> None:
    """Every set-up command learns what to mount."""
    holders = [config, *config["available_node_types"].values()]
    for holder in holders:
        for name in ("head_setup_commands", "worker_setup_commands"):
            if name in holder:
                holder[name] = with_envs(holder[name], {"KDGAN_EFS": host})


def _choose_images(config: dict[str, Any]) -> None:
    """Replaces the names of images by the newest image, or by that of the cluster that runs.

    Another image would make `ray up` replace the head of a running cluster.
    """
    for name, node_type in config["available_node_types"].items():
        image = node_type["node_config"].get("ImageId", "")
        if not image.startswith(NEWEST):
            continue
        alive = _instances(config, ("pending", "running"), {NODE_TYPE_TAG: name})
        running = next((instance["ImageId"] for instance in alive), None)
        node_type["node_config"]["ImageId"] = running or newest_image(config, image)


def newest_image(config: dict[str, Any], name: str) -> str:
    """The id behind a public parameter's name, which its owner keeps up to date."""
    parameter = name.removeprefix(NEWEST)
    found = client(config, "ssm").get_parameter(Name=parameter)
    return str(found["Parameter"]["Value"])


def _tag_everything(config: dict[str, Any]) -> None:
    """What an instance brings with it carries the cluster's tag too. Ray tags instances alone."""
    for node_type in config["available_node_types"].values():
        node = node_type["node_config"]
        kinds = ["instance", "volume"]
        if "InstanceMarketOptions" in node:
            kinds.append("spot-instances-request")
        given = {spec["ResourceType"]: spec["Tags"] for spec in node.get("TagSpecifications", [])}
        for kind in kinds:
            tags = {tag["Key"]: tag for tag in [*given.get(kind, []), *cluster_tags(config)]}
            given[kind] = list(tags.values())
        node["TagSpecifications"] = [
            {"ResourceType": kind, "Tags": tags} for kind, tags in given.items()
        ]


def _ensure_key_pair(config: dict[str, Any]) -> None:
    """A key pair of the cluster's own, unless the YAML has one.

    Raises:
        ClusterError: one half of it is here and the other is not.
    """
    if "ssh_private_key" in config["auth"]:
        return
    region = config["provider"]["region"]
    name = f"{config['cluster_name']}-{region}"
    config["provider"]["key_pair"] = {"key_name": name}  # where Ray looks
    file = _key_file(name)
    ec2 = client(config, "ec2")
    by_name = {"Name": "key-name", "Values": [name]}
    exists = bool(ec2.describe_key_pairs(Filters=[by_name])["KeyPairs"])
    if exists and file.exists():
        return
    if exists:
        raise ClusterError(
            f"the key pair {name} exists in {region}, but {file} is not on this machine: copy it"
            f" from the one that brought the cluster up (if there is no cluster: aws ec2"
            f" delete-key-pair --region {region} --key-name {name})"
        )
    if file.exists():
        raise ClusterError(
            f"{file} is here, but its key pair is not in {region} any more: delete the file"
        )
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Opened first: a key that cannot be kept is not made.
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as kept:
        try:
            made = ec2.create_key_pair(
                KeyName=name,
                KeyType="ed25519",
                TagSpecifications=[{"ResourceType": "key-pair", "Tags": cluster_tags(config)}],
            )
        except BaseException:
            file.unlink()
            raise
        kept.write(made["KeyMaterial"])


def _key_file(name: str) -> Path:
    return Path.home() / ".ssh" / f"{name}.pem"


def _key_pairs(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Those that were made for the cluster; a user's own carries no tag of it."""
    return list(client(config, "ec2").describe_key_pairs(Filters=[tag_filter(config)])["KeyPairs"])


def _instances(
    config: dict[str, Any], states: tuple[str, ...], tags: dict[str, str] | None = None
) -> Iterator[dict[str, Any]]:
    filters = [tag_filter(config), {"Name": "instance-state-name", "Values": list(states)}]
    filters += [{"Name": f"tag:{key}", "Values": [value]} for key, value in (tags or {}).items()]
    for page in (
        client(config, "ec2").get_paginator("describe_instances").paginate(Filters=filters)
    ):
        for reservation in page["Reservations"]:
            yield from reservation["Instances"]
