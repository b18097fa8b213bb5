"""The token that every request to the cluster must carry: a file that only its owner can read."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from cluster.errors import ClusterError

MOUNT = "~/.ray/auth_token"  # where Ray looks for it on the machines of the cluster
PRIVATE = 0o600


def token_path() -> Path:
    """Where Ray looks for the token on this machine."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()


def ensure_token() -> Path:
    """The token's file, made if it is not there, and readable by its owner alone.

    Ray makes one too, but readable by everybody on the machine.

    Raises:
        ClusterError: the file is empty, or the environment names another token than the file.
    """
    path = token_path()
    if not path.exists():
        _create(path)
    if stat.S_IMODE(path.stat().st_mode) != PRIVATE:
        path.chmod(PRIVATE)
    token = path.read_text().strip()
    if not token:
        raise ClusterError(f"the token file {path} is empty: delete it, and a new one is made")
    if os.environ.get("RAY_AUTH_TOKEN", token) != token:
        raise ClusterError(
            f"RAY_AUTH_TOKEN is not the token in {path}, which is the cluster's: unset it"
        )
    return path


def headers() -> dict[str, str]:
    """What a request to Ray's dashboard or Jobs API carries.

    Raises:
        ClusterError: as `ensure_token`.
    """
    return {"Authorization": f"Bearer {ensure_token().read_text().strip()}"}


def _create(path: Path) -> None:
    """Whoever comes first makes it; nobody ever sees it half-written or with other permissions."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE), "w") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # another process was faster, and its token counts
    finally:
        draft.unlink(missing_ok=True)
