"""What a trial says of single test images: a file of scores, and a page of examples.

A worker writes them beside the trial's spool, before its result; the recorder makes them artifacts
of the trial's run. Only tasks whose images are told apart have them.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kdgan_core.files import atomic_write

if TYPE_CHECKING:
    import pyarrow as pa

    from kdgan_core import TrialResult
    from kdgan_core.data.task import Example

SCORES, EXAMPLES = "images.parquet", "examples.html"  # names of the artifacts
NAMES = (SCORES, EXAMPLES)
STYLE = """
body { font: 16px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em }
table { border-collapse: collapse; width: 100% }
th, td { border-bottom: 1px solid #ccc; padding: .4em .6em; text-align: left; vertical-align: top }
.right { font-weight: bold }
img { max-height: 6em; max-width: 8em }
"""


def write_details(folder: Path, result: TrialResult) -> None:
    """Writes the trial's files, if its task has any.

    Raises:
        OSError: the storage cannot be written.
    """
    if not result.details:
        return
    import pyarrow.parquet as pq

    with atomic_write(folder / f"{result.trial_id}.{SCORES}") as file:
        pq.write_table(scores_table(result), file)
    seed, detail = next(iter(result.details.items()))
    page = examples_page(result.trial_id, seed, detail.examples)
    with atomic_write(folder / f"{result.trial_id}.{EXAMPLES}") as file:
        file.write(page.encode())


def detail_files(folder: Path, trial_id: str) -> dict[str, Path]:
    """Name of the artifact -> file, of those a trial has."""
    files = {name: folder / f"{trial_id}.{name}" for name in NAMES}
    return {name: path for name, path in files.items() if path.is_file()}


def scores_table(result: TrialResult) -> pa.Table:
    """A record per seed and test image: seed, image_id, and each metric (NaN where the image has
    no tag)."""
    import pyarrow as pa

    parts = []
    for seed, detail in result.details.items():
        count = len(detail.image_ids)
        columns = {
            "seed": pa.array([seed] * count, pa.int32()),
            "image_id": pa.array([str(name) for name in detail.image_ids], pa.string()),
        }
        parts.append(pa.table({**columns, **{k: pa.array(v) for k, v in detail.metrics.items()}}))
    return pa.concat_tables(parts)


def examples_page(trial_id: str, seed: int, examples: Iterable[Example]) -> str:
    """A page that shows recommended tags beside the true ones; no network, prints well."""
    rows = "\n".join(_row(example) for example in examples)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Recommended tags</title>
<style>{STYLE}</style></head><body>
<h1>Recommended tags</h1>
<p>Trial {html.escape(trial_id)}, seed {seed}: the first test images, the best tag first; tags that
the image has are bold.</p>
<table><thead><tr><th>image</th><th>recommended</th><th>true</th></tr></thead>
<tbody>
{rows}
</tbody></table>
</body></html>
"""


def _row(example: Example) -> str:
    picture = ""
    if example.thumbnail:
        kind = "png" if example.thumbnail.startswith(b"\x89PNG") else "jpeg"
        data = base64.b64encode(example.thumbnail).decode()
        picture = f'<img alt="" src="data:image/{kind};base64,{data}"><br>'
    cells = (
        picture + html.escape(example.image_id),
        ", ".join(_marked(example)),
        html.escape(", ".join(example.tags)) or "none",
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _marked(example: Example) -> Iterator[str]:
    for tag in example.recommended:
        text = html.escape(tag)
        yield f'<span class="right">{text}</span>' if tag in example.tags else text
