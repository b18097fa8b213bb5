"""Whence ssh is let in: from what the user says, else from the address the user is seen at."""

from __future__ import annotations

import ipaddress
import os
import urllib.request

from cluster.errors import ClusterError

VARIABLE = "KDGAN_SSH_FROM"
LOOKUP = "https://checkip.amazonaws.com"
LOOKUP_SECONDS = 10.0
# Shorter prefixes are no address of anybody: 0.0.0.0/1 and 128.0.0.0/1 are everybody too.
SHORTEST_PREFIX = {4: 8, 6: 32}


def ssh_addresses() -> list[str]:
    """Networks that may connect by ssh, as CIDR, sorted.

    Raises:
        ClusterError: one is no network or is far too wide, or none is to be had.
    """
    given = os.environ.get(VARIABLE, "").replace(",", " ").split()
    return sorted({_network(text) for text in given} if given else {_network(_seen_address())})


def _network(text: str) -> str:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise ClusterError(
            f"{VARIABLE}: {text!r} is no address ({error}); write it like 198.51.100.7/32"
        ) from None
    if network.prefixlen < SHORTEST_PREFIX[network.version]:
        raise ClusterError(
            f"{VARIABLE}: {text} would open ssh to much of the internet; the prefix must be"
            f" /{SHORTEST_PREFIX[network.version]} or longer, such as 198.51.100.7/32"
        )
    return str(network)


def _seen_address() -> str:
    """The address that this machine's requests come from, seen from outside."""
    try:
        with urllib.request.urlopen(LOOKUP, timeout=LOOKUP_SECONDS) as answer:
            text = answer.read(64).decode("ascii").strip()
        return str(ipaddress.ip_address(text))
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"{LOOKUP} does not say which address you have ({error}), and ssh is opened to no"
            f" other: set {VARIABLE}, such as {VARIABLE}=198.51.100.7/32"
        ) from None
