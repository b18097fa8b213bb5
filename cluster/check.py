"""What Ray's own validation of a cluster's YAML lets pass, and would cost, leak or fail later."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import ray.autoscaler
from botocore.validate import ParamValidator

from cluster import auth

MODULE = "cluster.aws.Provider"
EVERYWHERE = {"0.0.0.0/0", "::/0"}
LOOPBACK = ("127.0.0.1", "localhost")
START = re.compile(r"\bray\s+start\b")
DASHBOARD = re.compile(r"--dashboard-host[= ]\s*(\S+)")


def check_cluster(config: dict[str, Any]) -> list[str]:
    """What is wrong with a cluster's YAML, a sentence each; empty if nothing is.

    Args:
        config: as in the YAML, overlays included, before Ray has filled anything in.
    """
    kind = config.get("provider", {}).get("type")
    problems = [*_top_level(config), *_token(config), *_dashboard(config), *_autoscaler(config)]
    if kind == "external" and config["provider"].get("module") == MODULE:
        problems += [*_storage(config), *_provider(config)]
        for name, node_type in config.get("available_node_types", {}).items():
            problems += _node_type(config, name, node_type)
    elif kind == "local":
        problems += _storage(config)
    else:
        problems.append(
            f"provider: type {kind!r} is not checked here; Ray's own for AWS lets everybody try"
            f" ssh. Use type: external with module: {MODULE}, or type: local"
        )
    return problems


def _top_level(config: dict[str, Any]) -> Iterator[str]:
    schema = Path(ray.autoscaler.__file__).with_name("ray-schema.json")
    known = set(json.loads(schema.read_text())["properties"])
    for key in sorted(config.keys() - known):
        yield f"unknown key {key!r}; Ray knows {', '.join(sorted(known))}"


def _starts(config: dict[str, Any], role: str) -> list[str]:
    commands = config.get(f"{role}_start_ray_commands") or []
    return [command for command in commands if START.search(command)]


def _token(config: dict[str, Any]) -> Iterator[str]:
    if auth.MOUNT not in (config.get("file_mounts") or {}):
        yield f"file_mounts: the token is missing; add {auth.MOUNT}: {auth.MOUNT}"
    for role in ("head", "worker"):
        starts = _starts(config, role)
        if not starts:
            yield f"{role}_start_ray_commands: no `ray start`"
        for command in starts:
            if not re.search(r"\bRAY_AUTH_MODE=token\b", command[: START.search(command).start()]):  # type: ignore[union-attr]
                yield (
                    f"{role}_start_ray_commands: `ray start` without RAY_AUTH_MODE=token before"
                    " it lets in whoever reaches its ports"
                )


def _dashboard(config: dict[str, Any]) -> Iterator[str]:
    for role in ("head", "worker"):
        for command in _starts(config, role):
            named = DASHBOARD.search(command)
            # Ray's default is loopback; the head says so all the same, for whoever reads it.
            if (named is None and role == "head") or (named and named[1] not in LOOPBACK):
                yield (
                    f"{role}_start_ray_commands: --dashboard-host must be 127.0.0.1, not"
                    f" {named[1] if named else 'left out'}; connect.py forwards the port"
                )


def _autoscaler(config: dict[str, Any]) -> Iterator[str]:
    for command in _starts(config, "head"):
        if not re.search(r"\bRAY_enable_autoscaler_v2=0\b", command):
            yield (
                "head_start_ray_commands: RAY_enable_autoscaler_v2=0 is missing before `ray"
                " start`; without it `ray up` succeeds and workers of such a provider never start"
            )
        if "--autoscaling-config" not in command:
            yield (
                "head_start_ray_commands: `ray start` without"
                " --autoscaling-config=~/ray_bootstrap_config.yaml starts no worker"
            )


def _storage(config: dict[str, Any]) -> Iterator[str]:
    commands = config.get("setup_commands") or []
    if not any("setup_node.sh" in command for command in commands):
        yield "setup_commands: cluster/setup_node.sh is missing, which checks the shared storage"
    named = any(re.search(r"\bKDGAN_STORAGE=\S", command) for command in commands)
    if config["provider"].get("storage") != "efs" and not named:
        yield (
            "no shared storage: set KDGAN_STORAGE=FOLDER before setup_node.sh in setup_commands"
            + (", or provider: {storage: efs}" if config["provider"]["type"] != "local" else "")
        )


def _provider(config: dict[str, Any]) -> Iterator[str]:
    provider = config["provider"]
    group = provider.get("security_group") or {}
    if not group.get("GroupName"):
        yield "provider: security_group: {GroupName: …} is missing"
    for permission in group.get("IpPermissions", []):
        networks = {found.get("CidrIp") for found in permission.get("IpRanges", [])}
        networks |= {found.get("CidrIpv6") for found in permission.get("Ipv6Ranges", [])}
        if networks & EVERYWHERE:
            yield "provider: security_group lets in the whole internet"
        else:
            yield "provider: security_group: IpPermissions are not used; KDGAN_SSH_FROM is"
    if provider.get("cache_stopped_nodes", True):
        yield "provider: cache_stopped_nodes: false is missing; stopped machines' disks cost on"
    if not config.get("idle_timeout_minutes"):
        yield "idle_timeout_minutes is missing; workers without work would go on costing"


def _node_type(config: dict[str, Any], name: str, node_type: dict[str, Any]) -> Iterator[str]:
    node = node_type.get("node_config") or {}
    where = f"available_node_types: {name}"
    for line in _request_errors(node):
        yield f"{where}: node_config: {line}"
    if "SecurityGroupIds" in node or "SecurityGroups" in node or "NetworkInterfaces" in node:
        yield f"{where}: the security group is the provider's; leave it out of node_config"
    disks = [disk["Ebs"] for disk in node.get("BlockDeviceMappings", []) if "Ebs" in disk]
    if not disks or not all(disk.get("Encrypted") is True for disk in disks):
        yield f"{where}: a disk is not encrypted; BlockDeviceMappings: … Ebs: {{Encrypted: true}}"
    if node.get("MetadataOptions", {}).get("HttpTokens") != "required":
        yield f"{where}: MetadataOptions: {{HttpTokens: required}} is missing"
    meant = (config.get("metadata") or {}).get("keep_workers")
    worker = name != config.get("head_node_type")
    if worker and node_type.get("min_workers", 0) > 0 and not meant:
        yield (
            f"{where}: min_workers {node_type['min_workers']} cost while nothing runs; set 0, or"
            " metadata: {keep_workers: true} if that is meant"
        )


def _request_errors(node: dict[str, Any]) -> list[str]:
    """What EC2's RunInstances would not take, unknown keys at any depth."""
    shape = botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances")
    request = {key: value for key, value in node.items() if key != "SubnetIds"}  # Ray's own
    errors = [
        f"{key} is Ray's to say" for key in ("MinCount", "MaxCount") if request.pop(key, None)
    ]
    found = ParamValidator().validate({**request, "MinCount": 1, "MaxCount": 1}, shape.input_shape)
    return errors + [line for line in found.generate_report().splitlines() if line]
