"""What a sweep ran with: code, packages, hardware. Recorded with its results."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

PACKAGES = ("torch", "ray", "optuna", "mlflow", "numpy", "pandas", "pyarrow", "scikit-learn")


def code_version() -> tuple[str, bool]:
    """The commit of the code and whether the tree has uncommitted changes; ("unknown", False)
    outside a git checkout."""
    root = Path(__file__).resolve().parent.parent
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit, bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return "unknown", False


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that results depend on."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def hardware() -> dict[str, str]:
    """This machine in words: processor, cores available to this process, system, Python."""
    return {
        "processor": processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity")
                     else os.cpu_count()),
        "system": platform.platform(),
        "python": platform.python_version(),
    }  # fmt: skip


def processor(device: str = "cpu") -> str:
    """The CPU's, or with device "cuda" the current GPU's, name."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *words], check=True, capture_output=True, text=True, timeout=10
    )
    return done.stdout.strip()
