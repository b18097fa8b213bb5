"""The one error of this package."""

from __future__ import annotations

import click


class ClusterError(click.ClickException):
    """The cluster cannot be made, reached or taken down; the message says why and what to do.

    One of click's, since `ray up` calls the provider: Ray's command line prints the sentence then,
    instead of a traceback.
    """
