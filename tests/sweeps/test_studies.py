"""optuna-dashboard over the searches of a storage folder: a real server, read and not written."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import optuna
import pytest
from click.testing import CliRunner
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from sweeps.studies import main, read_studies

ROOT = Path(__file__).parents[2]


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """Two sweeps with a search of three trials each, and one without."""
    for name in ("digits-study-1", "digits-study-2"):
        folder = tmp_path / name
        folder.mkdir()
        journal = JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
        study = optuna.create_study(study_name="n=50", storage=journal, direction="maximize")
        study.optimize(lambda trial: trial.suggest_float("alpha", 0.0, 1.0), n_trials=3)
    (tmp_path / "digits-sensitivity-3").mkdir()
    return tmp_path


def test_every_search_is_copied(storage: Path) -> None:
    before = (storage / "digits-study-1" / "optuna.journal").read_bytes()
    copies = read_studies(storage)
    names = {study.study_name for study in copies.get_all_studies()}
    assert names == {"digits-study-1: n=50", "digits-study-2: n=50"}
    study = optuna.load_study(study_name="digits-study-1: n=50", storage=copies)
    assert len(study.trials) == 3
    study.add_trial(study.trials[0])
    assert (storage / "digits-study-1" / "optuna.journal").read_bytes() == before


def test_a_damaged_journal_is_passed_over(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (storage / "digits-study-1" / "optuna.journal").write_text('{"op_code": 99}\n')
    names = {study.study_name for study in read_studies(storage).get_all_studies()}
    assert names == {"digits-study-2: n=50"}
    assert "passed over" in capsys.readouterr().err


def test_no_search(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--storage", str(tmp_path)])
    assert result.exit_code == 2 and "there is no search in" in result.stderr


def test_the_dashboard_shows_them_until_its_input_ends(storage: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, str(ROOT / "sweeps" / "studies.py"), "--storage", str(storage),
             "--port", str(port), "--until-eof"]  # fmt: skip
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        found: dict[str, object] = {}
        deadline = time.monotonic() + 60
        while not found and time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies") as answer:
                    found = json.load(answer)
            except OSError:
                time.sleep(0.2)
        assert server.stdin is not None
        server.stdin.close()
        assert server.wait(timeout=30) == 0
    studies = found["study_summaries"]
    assert isinstance(studies, list)
    assert sorted(one["study_name"] for one in studies) == [
        "digits-study-1: n=50", "digits-study-2: n=50",
    ]  # fmt: skip
