"""What the command lines have in common: the words their options take, and how they refuse.

Importable at once.
"""

from __future__ import annotations

import click

TABLE = "methods"  # the mode that trains the lines of a table
MODES = ("study", "search", "sensitivity", "grid", "sobol", "baseline", TABLE)
SEARCHING = ("study", "search", TABLE)  # modes that ask Optuna
SAMPLERS = ("tpe", "gp", "cmaes", "qmc", "random")
RULES = ("asha", "median", "off")  # of early stopping
# --retry: outcomes whose trials run again.
RETRY: dict[str, tuple[str, ...]] = {
    "failed": ("failed",),
    "collapsed": ("failed", "collapsed", "diverged"),
    "all": ("failed", "collapsed", "diverged", "stopped", "finished"),
}


class UsageProblem(click.ClickException):
    """Ends a command with exit code 2 and one sentence."""

    exit_code = 2
