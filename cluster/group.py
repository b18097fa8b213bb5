"""The cluster's security group: ssh from the user's address, everything among its own machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from cluster.account import client, cluster_tags, tag_filter, wait_until
from cluster.errors import ClusterError

SSH_PORT = 22


class Rule(NamedTuple):
    """What is let in: a protocol (-1: every), a port (None: every), and whence."""

    protocol: str
    ports: tuple[int, int] | None
    source: str  # a network as CIDR, or the id of a security group or prefix list

    def permission(self) -> dict[str, Any]:
        """As EC2 wants it."""
        made: dict[str, Any] = {"IpProtocol": self.protocol}
        if self.ports is not None:
            made |= {"FromPort": self.ports[0], "ToPort": self.ports[1]}
        if self.source.startswith("sg-"):
            made["UserIdGroupPairs"] = [{"GroupId": self.source}]
        elif self.source.startswith("pl-"):
            made["PrefixListIds"] = [{"PrefixListId": self.source}]
        elif ":" in self.source:
            made["Ipv6Ranges"] = [{"CidrIpv6": self.source}]
        else:
            made["IpRanges"] = [{"CidrIp": self.source}]
        return made


def group_name(config: dict[str, Any]) -> str:
    """The group's name in the YAML, else one after the cluster."""
    named = config["provider"].get("security_group", {}).get("GroupName")
    return str(named or f"kdgan-{config['cluster_name']}")


def find_group(config: dict[str, Any]) -> dict[str, Any] | None:
    """The cluster's group as EC2 describes it, by its tag; None if there is none."""
    found = client(config, "ec2").describe_security_groups(
        Filters=[tag_filter(config), {"Name": "group-name", "Values": [group_name(config)]}]
    )["SecurityGroups"]
    return dict(found[0]) if found else None


def ensure_group(config: dict[str, Any], vpc: str, addresses: Sequence[str]) -> str:
    """The group's id, once it lets in what it should and nothing else.

    Args:
        config: the cluster's.
        vpc: id of the network of the cluster's machines.
        addresses: networks that may connect by ssh, as CIDR.

    Raises:
        ClusterError: the name is another group's.
    """
    group = find_group(config)
    if group is not None and group["VpcId"] != vpc:  # from when the machines were elsewhere
        delete_group(config)
        group = None
    if group is None:
        group = {"GroupId": _create_group(config, vpc), "IpPermissions": []}
    set_rules(config, group, addresses)
    return str(group["GroupId"])


def set_rules(config: dict[str, Any], group: dict[str, Any], addresses: Sequence[str]) -> None:
    """What the group lets in becomes ssh from the addresses and everything within the group."""
    ec2, identity = client(config, "ec2"), group["GroupId"]
    wanted = {Rule("tcp", (SSH_PORT, SSH_PORT), address) for address in addresses}
    wanted.add(Rule("-1", None, identity))
    present = _rules(group["IpPermissions"])
    if missing := sorted(wanted - present):
        permissions = [rule.permission() for rule in missing]
        ec2.authorize_security_group_ingress(GroupId=identity, IpPermissions=permissions)
    if strange := sorted(present - wanted):  # also yesterday's address
        permissions = [rule.permission() for rule in strange]
        ec2.revoke_security_group_ingress(GroupId=identity, IpPermissions=permissions)


def delete_group(config: dict[str, Any]) -> None:
    """The group is gone.

    Raises:
        ClusterError: something still uses it after minutes.
    """
    group = find_group(config)
    if group is None:
        return
    ec2 = client(config, "ec2")

    def gone() -> bool:
        try:
            ec2.delete_security_group(GroupId=group["GroupId"])
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "DependencyViolation":  # a machine's interface goes a little after it
                return False
            if code != "InvalidGroup.NotFound":
                raise
        return True

    wait_until(gone, f"the security group {group['GroupId']} not to be used any more")


def _create_group(config: dict[str, Any], vpc: str) -> str:
    ec2, name = client(config, "ec2"), group_name(config)
    try:
        made = ec2.create_security_group(
            GroupName=name,
            Description=f"KDGAN sweeps on {config['cluster_name']}: ssh from its user alone",
            VpcId=vpc,
            TagSpecifications=[{"ResourceType": "security-group", "Tags": cluster_tags(config)}],
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "InvalidGroup.Duplicate":
            raise
        raise ClusterError(
            f"the security group {name!r} in {vpc} is not of cluster {config['cluster_name']!r}:"
            " give this one another name under provider: security_group: GroupName"
        ) from None
    ec2.get_waiter("security_group_exists").wait(GroupIds=[made["GroupId"]])
    return str(made["GroupId"])


def _rules(permissions: Sequence[dict[str, Any]]) -> set[Rule]:
    """EC2's permissions, each of which has one protocol and many sources, one by one."""
    rules = set()
    for permission in permissions:
        protocol = permission["IpProtocol"]
        ports = None
        if protocol != "-1" and "FromPort" in permission:
            ports = (permission["FromPort"], permission["ToPort"])
        sources = [found["CidrIp"] for found in permission.get("IpRanges", [])]
        sources += [found["CidrIpv6"] for found in permission.get("Ipv6Ranges", [])]
        sources += [found["GroupId"] for found in permission.get("UserIdGroupPairs", [])]
        sources += [found["PrefixListId"] for found in permission.get("PrefixListIds", [])]
        rules |= {Rule(protocol, ports, source) for source in sources}
    return rules
