"""What a result was made with: versions, commit, device, time."""

import os
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hcreg._version import __version__

PACKAGES = ("keras", "tensorflow", "jax", "numpy", "scipy", "opencv-python-headless", "scikit-learn")


def provenance():
    """Versions, commit, device and time of a run.

    Returns
    -------
    dict
    """
    from hcreg import backend

    return {
        "versions": package_versions(),
        "commit": git_commit(),
        "device": backend.device_report(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def package_versions(more=()):
    """Versions of hcreg and of the packages its numbers depend on.

    Parameters
    ----------
    more : sequence of str
        Further packages.

    Returns
    -------
    dict of str to str
        Without those that are not installed.
    """
    versions = {"hcreg": __version__}
    for package in (*PACKAGES, *more):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def git_commit():
    """Commit of the checkout hcreg runs from, with ``+`` where files were changed since.

    Returns
    -------
    str or None
        None where hcreg was installed without its history.
    """
    source = Path(__file__).resolve().parent
    # inside a git hook GIT_DIR names the hook's repository, which may be another one
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*arguments):
        command = ["git", "-C", str(source), *arguments]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # not tracked: a checkout that merely holds site-packages
        return git("describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*") or None
    except (OSError, subprocess.SubprocessError):
        return None
