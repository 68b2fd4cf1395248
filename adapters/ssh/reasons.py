"""Why a host could not be reached: asyncssh's errors, said so that somebody can do something about it."""

from __future__ import annotations

import os

import asyncssh

from orch.adapters.agents.host import Refusal
from orch.adapters.ssh.names import Name
from orch.adapters.ssh.options import SshOptions
from orch.errors import AdapterError

_USUAL = os.path.expanduser("~/.ssh/known_hosts")


def explained(error: Exception, name: Name, options: SshOptions) -> AdapterError:
    """What to tell the user. A `Refusal` where trying again is of no use."""
    if isinstance(error, AdapterError):
        return error
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return Refusal(_unverified(name, options))
    if isinstance(error, asyncssh.PermissionDenied):
        key = f" with the key {options.key}" if options.key else ""
        return Refusal(
            f"it does not let us in{key} ({error.reason}): see whether this works: {_ssh(name, options)} true"
        )
    if isinstance(error, ValueError | asyncssh.KeyExchangeFailed):  # a key with a passphrase, a wrong configuration …
        return Refusal(f"it cannot be connected to: {error}; a key that needs a passphrase belongs into ssh-agent")
    if isinstance(error, TimeoutError):
        return AdapterError(f"it does not answer within {options.timeout:g} s")
    if isinstance(error, OSError):
        return AdapterError(f"it cannot be reached: {error.strerror or error}")
    return AdapterError(f"the connection is cut: {error}")


def _unverified(name: Name, options: SshOptions) -> str:
    """Has its key changed, or was it never known?"""
    host, port, files = _looked_up(name, options)
    shown = files[0] if files else "~/.ssh/known_hosts"
    entry = host if port == 22 else f"[{host}]:{port}"
    if any(_knows(file, host, port) for file in files):
        return (
            f"its key is not the one in {shown}: somebody may be in between, or it was set up anew. If you know that "
            f"it was, forget the old key with: ssh-keygen -f {shown} -R '{entry}', and take the new one as below:\n"
            f"    {_ssh(name, options)} true"
        )
    return (
        f"its key is not known ({shown} has none for {entry}), so it could be any host. Compare the key that it shows "
        f"with what its administrator says, and accept it, with: {_ssh(name, options)} true"
    )


def _looked_up(name: Name, options: SshOptions) -> tuple[str, int, list[str]]:
    """Its address, port and the files of known keys, as OpenSSH's configuration has them."""
    found = asyncssh.SSHClientConnectionOptions(host=name.host, config=list(options.config))
    known = [options.known_hosts] if options.known_hosts else found.known_hosts
    files = [os.fspath(each) for each in known] if isinstance(known, list) else []
    return found.host, found.port, [file for file in files or [_USUAL] if os.path.exists(file)]


def _knows(file: str, host: str, port: int) -> bool:
    try:
        return any(asyncssh.read_known_hosts([file]).match(host, "", None if port == 22 else port)[:2])
    except (OSError, ValueError):
        return False


def _ssh(name: Name, options: SshOptions) -> str:
    """The command that does the same by hand."""
    words = ["ssh"]
    if options.config and options.config[0] != os.path.expanduser("~/.ssh/config"):
        words += ["-F", options.config[0]]
    if options.key:
        words += ["-i", options.key]
    if options.known_hosts:
        words += ["-o", f"UserKnownHostsFile={options.known_hosts}"]
    return " ".join([*words, str(name)])
