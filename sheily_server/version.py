"""The installed version of this package."""

from __future__ import annotations

import importlib.metadata


def package_version() -> str:
    try:
        return importlib.metadata.version("sheily-server")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "0"
