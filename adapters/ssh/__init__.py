"""Hosts that are reached over ssh: each has an agent, and all of them are one batch system."""

from __future__ import annotations

from orch.adapters.contract import Adapter
from orch.errors import UnknownAdapter


def adapter() -> Adapter:
    """A new adapter. Raises `UnknownAdapter` where asyncssh is not installed."""
    try:
        from orch.adapters.ssh.pool import SshAdapter
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] in {"asyncssh", "cryptography"}:
            raise UnknownAdapter("the adapter ssh needs asyncssh. It comes with: pip install 'orch[ssh]'") from error
        raise
    return SshAdapter()
