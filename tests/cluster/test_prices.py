"""The table of prices, and what clusters cost by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.overlay import compose
from cluster.prices import TABLE, cost_per_hour, most_per_hour, read_prices

CLUSTER = Path(__file__).parents[2] / "cluster"
OVERLAYS = sorted(path.stem for path in (CLUSTER / "overlays").glob("*.yaml"))


def test_every_line_has_a_source_and_a_date() -> None:
    prices = read_prices()
    assert len(prices) == len(TABLE.read_text().splitlines()) - 1
    for price in prices.values():
        assert price.source and price.date.startswith("20")
        assert bool(price.gpus) == bool(price.gpu)


@pytest.mark.parametrize("overlays", [[], *([name] for name in OVERLAYS)])
def test_all_that_our_configurations_use_is_priced(overlays: list[str]) -> None:
    cost = most_per_hour(compose(CLUSTER / "gpu.yaml", overlays))
    assert cost.unpriced == () and cost.usd > 0


@pytest.mark.parametrize(
    ("overlays", "usd"),
    [([], 0.096 + 4 * 0.4394), (["on-demand"], 0.096 + 4 * 0.8048), (["multi-gpu"], 4.6016)],
)
def test_the_most_is_head_and_all_workers(overlays: list[str], usd: float) -> None:
    assert most_per_hour(compose(CLUSTER / "gpu.yaml", overlays)).usd == pytest.approx(usd)


@pytest.mark.parametrize("overlays", [[], *([name] for name in OVERLAYS)])
def test_the_documented_costs_are_the_table_s(overlays: list[str]) -> None:
    name = f"with `{overlays[0]}`" if overlays else "`gpu.yaml`"
    lines = (CLUSTER / "README.md").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"| {name} | ") and "xlarge" in line]
    assert f"{most_per_hour(compose(CLUSTER / 'gpu.yaml', overlays)).usd:.2f} (" in line


def test_all_types_together_stay_below_the_clusters_limit() -> None:
    config = compose(CLUSTER / "gpu.yaml")
    node_types = config["available_node_types"]
    dear = {"max_workers": 3, "node_config": {"InstanceType": "g6.12xlarge"}}
    node_types["dear"] = dear
    assert most_per_hour(config).usd == pytest.approx(0.096 + 3 * 4.6016 + 0.4394)
    del dear["max_workers"]  # Ray: as many as the cluster may have
    assert most_per_hour(config).usd == pytest.approx(0.096 + 4 * 4.6016)


def test_a_machine_without_a_price_is_named() -> None:
    machines = [("g6.xlarge", False), ("zz.xlarge", True), ("zz.xlarge", False)]
    assert cost_per_hour(machines, "us-west-2") == (0.8048, ("zz.xlarge",))
    assert cost_per_hour([("g6.xlarge", True)], "us-nowhere-1") == (0.0, ("g6.xlarge",))


def test_ones_own_machines_cost_nothing_here() -> None:
    assert most_per_hour({"provider": {"type": "local"}}).usd == 0.0


HEADER = TABLE.read_text().splitlines()[0]


@pytest.mark.parametrize(
    "lines",
    [
        ["a,1,1,0,,-1,0.1,r,2026,s"],
        ["a,1,1,0,,1,2,r,2026,s"],
        ["a,one,1,0,,1,0.5,r,2026,s"],
        ["a,1,1,0,,1,0.5,r,2026,s", "a,1,1,0,,2,0.5,r,2026,s"],
    ],
)
def test_a_table_that_makes_no_sense_is_refused(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / "prices.csv"
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    with pytest.raises(ValueError, match="a"):
        read_prices(path)
