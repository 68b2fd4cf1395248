"""How hosts are written, and the settings of the adapter."""

from __future__ import annotations

import sys

import pytest

from orch.adapters.registry import make_adapter
from orch.adapters.settings import SSH
from orch.adapters.ssh.names import Name, parse_hosts
from orch.adapters.ssh.options import read_options
from orch.errors import UnknownAdapter, UserError


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("node1:16, user@node2:8", (Name("node1", "", 16), Name("node2", "user", 8))),
        ("node1 node2\nnode3,", (Name("node1"), Name("node2"), Name("node3"))),
        ("[2001:db8::7]:4", (Name("2001:db8::7", "", 4),)),
        ("me@[::1]", (Name("::1", "me"),)),
        ("a.b-c.example:2", (Name("a.b-c.example", "", 2),)),
    ],
)
def test_hosts(text: str, hosts: tuple[Name, ...]) -> None:
    assert parse_hosts(text) == hosts


@pytest.mark.parametrize(
    "text", ["", "a:b", "a:0", "a@", "-oProxyCommand=x", "2001:db8::7", "a,a", "u@a:1 u@a:2", "@a"]
)
def test_what_is_no_host_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(ValueError, match=r"node1:16|slots|twice"):
        parse_hosts(text)


def test_hosts_are_needed() -> None:
    with pytest.raises(UserError, match="--ssh-hosts node1:16"):
        read_options({})


def test_paths_are_looked_at_first() -> None:
    with pytest.raises(UserError, match="ssh-key is /nowhere/key"):
        read_options({"ssh-hosts": "a", "ssh-key": "/nowhere/key"})
    with pytest.raises(UserError, match="has to begin with /"):
        read_options({"ssh-hosts": "a", "ssh-work-dir": "scratch"})


def test_each_setting_is_read() -> None:
    known = {option.name for option in SSH}
    given = {
        "ssh-hosts": "a:1",
        "ssh-lost-after": "1min",
        "ssh-connect-timeout": "5s",
        "ssh-python": "/usr/bin/python3",
    }
    assert set(given) < known
    options = read_options(given)
    assert (options.lost_after, options.timeout, options.python) == (60, 5, "/usr/bin/python3")
    for option in SSH:
        assert not option.problem(given.get(option.name, "/x")) or option.name in given


def test_without_asyncssh_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("asyncssh", "orch.adapters.ssh."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "asyncssh", None)  # how Python says: there is none
    with pytest.raises(UnknownAdapter, match=r"pip install 'orch\[ssh\]'"):
        make_adapter("ssh")
