"""The token that a cluster's Ray asks of everyone who talks to it."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

MODE = 0o600


def token_path() -> Path:
    """Where Ray looks for the token: RAY_AUTH_TOKEN_PATH, else ~/.ray/auth_token."""
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return Path(named).expanduser() if named else Path.home() / ".ray" / "auth_token"


def ensure_token() -> Path:
    """The token's file, made where there is none and closed to others where it is open.

    Ray writes its own with the permissions of any new file, which lets every user of the machine
    read it.

    Raises:
        OSError: the file cannot be written.
    """
    path = token_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".auth_token-")  # 0600
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32))
        with contextlib.suppress(FileExistsError):  # another process was first: its token it is
            os.link(name, path)
        Path(name).unlink()
    if path.stat().st_mode & 0o077:
        path.chmod(MODE)
    return path


def headers() -> dict[str, str]:
    """What a request to Ray's dashboard or Jobs API carries.

    Raises:
        OSError: the token's file cannot be made or read.
    """
    return {"Authorization": f"Bearer {ensure_token().read_text().strip()}"}
