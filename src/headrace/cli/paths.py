"""Where the command line keeps things: the XDG directories, mode 0700."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

APPLICATION = "headrace"


def state_home() -> Path:
    """`$XDG_STATE_HOME/headrace`, by default `~/.local/state/headrace`: clusters, artifacts, shadow repositories."""
    return _base("XDG_STATE_HOME", Path.home() / ".local" / "state")


def runtime_home() -> Path:
    """`$XDG_RUNTIME_DIR/headrace` for sockets; the state directory where the session has no runtime directory."""
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    return Path(given) / APPLICATION if os.path.isabs(given) and os.path.isdir(given) else state_home()


def cluster_directory() -> Path:
    """Data of the embedded cluster of `headrace up`."""
    return state_home() / "cluster"


def kubeconfig() -> Path:
    """The kubeconfig of the embedded cluster."""
    return cluster_directory() / "kubeconfig"


def socket(server: str) -> Path:
    """The Unix socket that this user's engine of the cluster at `server` (its URL) answers on."""
    return runtime_home() / f"engine-{hashlib.sha256(server.encode()).hexdigest()[:12]}.sock"


def up_lock() -> Path:
    """Held by the `headrace up` that serves the embedded cluster; contains its process id."""
    return state_home() / "up.lock"


def private(directory: Path) -> Path:
    """`directory`, made with mode 0700 when it is not there."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


def _base(variable: str, default: Path) -> Path:
    given = os.environ.get(variable, "")
    return (Path(given) if os.path.isabs(given) else default) / APPLICATION
