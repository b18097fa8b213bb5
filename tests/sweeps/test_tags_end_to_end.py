"""A user's file of posts, from the command line to MLflow and Table 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from driving import ROOT, environment, run, sqlite_of
from mlflow import MlflowClient

from kdgan_core.data.generated_posts import generated_posts
from kdgan_core.metrics import METRICS

COMMAND = [sys.executable, str(ROOT / "sweeps" / "run.py"), "tags"]


def write_posts(path: Path) -> None:
    """300 posts without a split column."""
    posts = generated_posts(rows=300)
    columns = {
        "image_id": pa.array([str(name) for name in posts.ids]),
        "image_feature": pa.array(list(posts.features), pa.list_(pa.float32())),
        "text": pa.array([str(text) for text in posts.texts]),
        "tags": pa.array([posts.tags_of(row) for row in range(len(posts))]),
    }
    pq.write_table(pa.table(columns), path)


@pytest.mark.slow
def test_a_file_of_posts_becomes_a_table(tmp_path: Path) -> None:
    write_posts(tmp_path / "mine.parquet")
    words = [
        sys.executable,
        str(ROOT / "sweeps" / "run.py"),
        "tags",
        "--tags-file",
        "mine.parquet",
    ]
    words += ["--mode", "methods", "--arms", "kdgan,knn", "--trials", "0", "--seeds", "2"]
    words += ["--set", "pretrain_steps=20", "--set", "teacher_pretrain_steps=20"]
    done = run(tmp_path, words)
    assert done.returncode == 0, done.stdout
    assert "n=all knn: test MAP" in done.stdout
    assert "python analysis/plot.py tags --table 2" in done.stdout

    client = MlflowClient(sqlite_of(tmp_path))
    experiment = client.get_experiment_by_name("tags")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`kdgan.kind` = 'trial'")
    assert sorted(r.data.tags["level"] for r in runs) == ["kdgan", "knn"]
    for one in runs:
        assert one.data.params["tags_file"] == str(tmp_path / "mine.parquet")
        for metric in METRICS:
            assert 0.0 < one.data.metrics[f"test_{metric}"] <= 1.0
            assert one.data.metrics[f"test_{metric}_n"] == 2.0
        names = {file.path for file in client.list_artifacts(one.info.run_id)}
        assert names == {"curves.parquet", "images.parquet", "examples.html"}
        path = client.download_artifacts(one.info.run_id, "images.parquet", str(tmp_path))
        scores = pq.read_table(path).to_pandas()
        assert len(scores) == 2 * 60  # a fifth of the posts tests, under either seed
        by_seed = scores.groupby("seed")["map"].mean()
        for seed, value in by_seed.items():
            assert abs(value - one.data.metrics[f"test_map/seed_{seed}"]) < 1e-9

    drawn = subprocess.run(
        [sys.executable, str(ROOT / "analysis" / "plot.py"), "tags", "--table", "2"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert drawn.returncode == 0, drawn.stderr
    page = (tmp_path / "figures" / "tags" / "table2.md").read_text()
    assert "KDGAN − KNN" in page


def test_a_bad_file_is_one_sentence(tmp_path: Path) -> None:
    write_posts(tmp_path / "mine.parquet")
    table = pq.read_table(tmp_path / "mine.parquet")
    rows = table.to_pylist()
    rows[7]["image_feature"] = rows[7]["image_feature"][:5]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), tmp_path / "mine.parquet")
    words = [
        sys.executable,
        str(ROOT / "sweeps" / "run.py"),
        "tags",
        "--tags-file",
        "mine.parquet",
    ]
    done = run(tmp_path, words)
    assert done.returncode == 2, done.stdout
    (line,) = done.stdout.strip().splitlines()
    assert line.startswith("Error: ")
    assert "row 8" in line or "row 7" in line
    assert "image_feature" in line
