"""One message to a webhook when a sweep ends, reaches a cap or first fails."""

from __future__ import annotations

import http.client
import json
import threading
import urllib.request
from collections.abc import Mapping

TIMEOUT_SECONDS = 10.0


def notify(url: str, event: str, text: str, facts: Mapping[str, object]) -> str:
    """Posts {"text", "event", ...facts} as JSON; chat services show `text`.

    Returns:
        Why that did not work, "" if it did. A webhook that is away never ends a sweep.
    """
    body = json.dumps({"text": text, "event": event, **facts}).encode()
    outcome = [f"no answer within {TIMEOUT_SECONDS:g} s"]

    def post() -> None:
        try:
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):
                outcome[0] = ""
        except (OSError, ValueError, http.client.HTTPException) as error:
            outcome[0] = f"{type(error).__name__}: {error}"

    # A name that nobody resolves, or an answer that comes drop by drop, has no timeout.
    posting = threading.Thread(target=post, daemon=True)
    posting.start()
    posting.join(TIMEOUT_SECONDS)
    return outcome[0]
