"""The report and the MLflow UI in a real browser: Chromium, headless, without a network.

KDGAN_SCREENSHOTS names a folder that keeps the screenshots.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from handmade import Trial, realistic_trials, record_sweep
from handmade_designs import grid_trials, search_trials
from mlflow import MlflowClient

from analysis.plot import main

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs Debian's chromium and chromium-driver"
)
WAIT_SECONDS = 60.0
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
        try:
            yield driver
        finally:
            driver.quit()


@pytest.fixture(scope="module")
def drawn(store: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The report's file, the experiment's id and the id of the parent it was logged to."""
    folder = tmp_path_factory.mktemp("browser")
    client = MlflowClient(tracking_uri=store)
    experiment_id = client.create_experiment("browser", (folder / "artifacts").as_uri())
    record_sweep(client, experiment_id, "b-grid", grid_trials(), mode="grid")
    parent = record_sweep(client, experiment_id, "b-study", study_trials())
    words = ["browser", "--report", "--tracking-uri", store, "--out", str(folder)]
    result = CliRunner().invoke(
        main, [*words, "--runs-file", str(folder / "runs.parquet")], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return folder / "browser" / "report.html", experiment_id, parent


def study_trials() -> list[Trial]:
    return [*realistic_trials((100,)), *search_trials([("finished", 0.8), ("stopped", 0.7)])]


def resize(browser: object, width: int) -> None:
    browser.execute_cdp_cmd(  # type: ignore[attr-defined]
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )


def keep(browser: object, name: str) -> None:
    """Keep a screenshot where the environment says."""
    folder = os.environ.get("KDGAN_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(Path(folder) / f"{name}.png"))  # type: ignore[attr-defined]


def errors(browser: object) -> list[str]:
    log = browser.get_log("browser")  # type: ignore[attr-defined]
    return [entry["message"] for entry in log if entry["level"] == "SEVERE"]


@pytest.mark.parametrize("width", [1280, 400])
def test_the_report_opens_from_disk(browser, drawn, width: int) -> None:  # type: ignore[no-untyped-def]
    resize(browser, width)
    browser.get(drawn[0].as_uri())
    assert errors(browser) == []
    figures = browser.find_elements("css selector", "figure svg")
    assert len(figures) == 5
    assert all(one.size["width"] >= 350 and one.size["height"] > 100 for one in figures)
    # Wide figures and tables scroll in boxes of their own; the page never does.
    script = "return document.documentElement.scrollWidth"
    assert browser.execute_script(script) <= width
    keep(browser, f"report-{width}")


def test_a_value_appears_under_the_pointer_and_goes(browser, drawn) -> None:  # type: ignore[no-untyped-def]
    from selenium.webdriver import ActionChains

    resize(browser, 1280)
    browser.get(drawn[0].as_uri())
    tip = browser.find_element("id", "tip")
    assert not tip.is_displayed()
    for svg in browser.find_elements("css selector", "figure svg"):
        spot = svg.find_elements("css selector", ".spots circle")[-1]
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", spot)
        ActionChains(browser).move_to_element(spot).perform()
        assert tip.is_displayed() and any(sign.isdigit() for sign in tip.text), tip.text
    keep(browser, "report-hover")
    ActionChains(browser).move_to_element(browser.find_element("tag name", "h1")).perform()
    assert not tip.is_displayed()


def test_the_report_prints(browser, drawn) -> None:  # type: ignore[no-untyped-def]
    browser.get(drawn[0].as_uri())
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not browser.find_element("tag name", "nav").is_displayed()
    assert all(one.is_displayed() for one in browser.find_elements("css selector", "figure svg"))
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.fixture(scope="module")
def server(store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server over the store."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store,
        "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
    ]  # fmt: skip
    process = subprocess.Popen(
        words, cwd=tmp_path_factory.mktemp("server"), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        until(lambda: answers(address))
        yield address
    finally:
        process.terminate()
        process.wait(20)


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


def until(is_so: Callable[[], object]) -> None:
    """Wait until something is so; fails after WAIT_SECONDS."""
    end = time.monotonic() + WAIT_SECONDS
    while not is_so():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.5)


@pytest.mark.slow
def test_the_mlflow_ui_lists_the_trials_and_shows_the_figures(browser, drawn, server: str) -> None:  # type: ignore[no-untyped-def]
    _, experiment_id, parent = drawn
    resize(browser, 1280)

    def text() -> str:
        return str(browser.find_element("tag name", "body").text)

    runs = f"{server}/#/experiments/{experiment_id}/runs"
    browser.get(runs)
    # Both parents, and all trials nested under them.
    until(lambda: f"{2 + len(grid_trials()) + len(study_trials())} matching runs" in text())
    keep(browser, "mlflow-runs")
    for name, shown in (
        ("figure4.png", "img[src*='figure4'], img[src^='blob:']"), ("report.html", "iframe"),
    ):  # fmt: skip
        browser.get(f"{runs}/{parent}/artifacts/report/{name}")
        browser.refresh()  # the address behind the # alone loads nothing anew
        until(lambda name=name: f"report/{name}" in text())
        until(lambda shown=shown: browser.find_elements("css selector", shown))
        keep(browser, f"mlflow-{name.partition('.')[0]}")
