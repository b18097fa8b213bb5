"""Packages that only the preparation of a user's table can use, and only where they are there."""

from __future__ import annotations

import importlib
from types import ModuleType

from kdgan_core.data.dataset import DataError


def optional_package(module: str, package: str, purpose: str, otherwise: str = "") -> ModuleType:
    """The imported module.

    Args:
        module: to import.
        package: what pip calls it.
        purpose: what needs it; begins the message.
        otherwise: what to do without it; ends the message.

    Raises:
        DataError: it is not installed, or does not go with the other packages.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, RuntimeError) as error:  # torchvision, of another torch: RuntimeError
        raise DataError(
            f"{purpose} needs {package} ({error}): pip install {package}{otherwise}"
        ) from error
