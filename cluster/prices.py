"""What a cluster costs an hour, from the table of prices in prices.csv.

Machines only: disks, the file system and traffic come on top. Spot prices change by the hour; the
table's are typical ones of its date.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

TABLE = Path(__file__).with_name("prices.csv")


class Price(NamedTuple):
    """A line of the table."""

    instance_type: str
    vcpus: int
    memory_gib: float
    gpus: int
    gpu: str
    usd_per_hour: float
    spot_usd_per_hour: float
    region: str
    date: str
    source: str


class HourlyCost(NamedTuple):
    """USD an hour of the machines whose price is known, and the types whose price is not."""

    usd: float
    unpriced: tuple[str, ...]


@cache
def read_prices(path: Path = TABLE) -> Mapping[tuple[str, str], Price]:
    """The table, by instance type and region.

    Raises:
        ValueError: a number is none, is not positive, or a machine has two lines.
    """
    prices: dict[tuple[str, str], Price] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            try:
                price = Price(**{k: _kinds[k](v) for k, v in row.items()})
            except ValueError as error:
                raise ValueError(f"{path}: {row['instance_type']}: {error}") from None
            key = (price.instance_type, price.region)
            if key in prices or not 0 < price.spot_usd_per_hour <= price.usd_per_hour:
                raise ValueError(f"{path}: {' in '.join(key)}: twice, or no sensible price")
            prices[key] = price
    return prices


def cost_per_hour(machines: Iterable[tuple[str, bool]], region: str) -> HourlyCost:
    """What machines cost together.

    Args:
        machines: each one's instance type, and whether it is a spot instance.
        region: where they are.
    """
    prices, usd, unpriced = read_prices(), 0.0, set()
    for instance_type, spot in machines:
        price = prices.get((instance_type, region))
        if price is None:
            unpriced.add(instance_type)
        else:
            usd += price.spot_usd_per_hour if spot else price.usd_per_hour
    return HourlyCost(usd, tuple(sorted(unpriced)))


def most_per_hour(config: dict[str, Any]) -> HourlyCost:
    """What a cluster costs while it has as many workers as its YAML allows.

    One's own machines (provider type local) cost nothing here.

    Args:
        config: the cluster's, as in its YAML with the overlays, or bootstrapped.
    """
    if config["provider"]["type"] == "local":
        return HourlyCost(0.0, ())
    region = config["provider"]["region"]
    node_types = config["available_node_types"]
    head = _machine(node_types[config["head_node_type"]])
    workers = []
    for name, node_type in node_types.items():
        most = 0 if name == config["head_node_type"] else config["max_workers"]
        workers += [_machine(node_type)] * node_type.get("max_workers", most)
    # Of several types the dearest come first, up to what all of them together may be.
    workers.sort(key=lambda machine: cost_per_hour([machine], region).usd, reverse=True)
    return cost_per_hour([head, *workers[: config["max_workers"]]], region)


def _machine(node_type: dict[str, Any]) -> tuple[str, bool]:
    node = node_type["node_config"]
    market = node.get("InstanceMarketOptions", {}).get("MarketType")
    return node["InstanceType"], market == "spot"


_kinds: dict[str, Any] = {
    "instance_type": str, "vcpus": int, "memory_gib": float, "gpus": int, "gpu": str,
    "usd_per_hour": float, "spot_usd_per_hour": float, "region": str, "date": str, "source": str,
}  # fmt: skip
