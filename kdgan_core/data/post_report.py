"""What a file of posts holds, in words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdgan_core.data.post_choice import describe


def report(out: Path, facts: Mapping[str, Any]) -> str:
    """What the file holds, what was left out, and what to do with it."""
    lines = [
        f"{out}: {facts['posts']:,} posts of {facts['total']:,} rows,"
        f" {len(facts['vocabulary'])} tags, {facts['tags_per_post']:.1f} a post"
    ]
    if facts["splits"]:
        lines.append(", ".join(f"{count:,} {split}" for split, count in facts["splits"].items()))
    else:
        lines.append("no split: every seed of a sweep draws its own")
    if facts["left_out"]:
        lines.append(f"left out: {describe(facts['left_out'])}")
    if facts["textless"]:
        lines.append(f"without a word of text, but kept: {facts['textless']:,}")
    options = facts["options"]
    own = isinstance(options["vocabulary"], list)
    wanted = len(options["vocabulary"]) if own else options["tags"]
    if len(facts["vocabulary"]) < wanted:
        least = 1 if own else options["at_least"]
        lines.append(f"fewer than {wanted} tags are on {least} or more training posts")
    if facts["unused_tags"]:
        lines.append(f"on no post that was kept: {', '.join(facts['unused_tags'])}")
    command = shlex.join(["python", "sweeps/run.py", "tags", "--tags-file", str(out)])
    return "\n".join([*lines, "", "To sweep it:", f"  {command}"])
