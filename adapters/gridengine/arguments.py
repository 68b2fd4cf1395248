"""What a user may say to qsub beside what orch says: `gridengine-args`, `$ORCH_SGE_ARGS`, and `backend={…}` of a job.

Source: submit(1) (qsub), OPTIONS, of Son of Grid Engine 8.1.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Sequence


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FLAGS = _words("clear cwd hard soft notify terse V verify help")
"""Options without a value."""

_VALUES = _words(
    "@ a ac ar A b binding c ckpt C dc display dl e h hold_jid hold_jid_ad i j js jsv l m masterq M now N o p pe pty P "
    "q r R sc shell sync S t tc v w wd"
)

_OURS = _words("@ b C clear cwd e help i j N now o r S shell sync t terse notify verify wd")
"""What orch has to know of, or to rely on."""

_ABOUT = {"pe": "cores", "binding": "cores"}

_LIMITS = {"h_rt": "walltime", "s_rt": "walltime", "slots": "cores", "s": "cores", "num_proc": "cores", "p": "cores"}
"""Resources that say what a job says itself; those for memory depend on the site."""

BACKEND = frozenset(f"-{name}" for name in (_FLAGS | _VALUES) - _OURS - {"pe", "l", "soft", "hard"})
"""Options that a job may pass through."""


def more(text: str, memory: Collection[str] = ()) -> list[str]:
    """The arguments in `gridengine-args`. `memory`: the resources that orch asks for a job's memory by.

    Raises `ValueError` that names what orch sets itself, and what is no option of qsub.
    """
    words = shlex.split(text)
    for name, value in _options(words):
        _allowed(name)
        for resource in _resources(value) if name == "l" else ():
            check_resource(resource, memory)
    return words


def _options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    left = list(words)
    while left:
        word = left.pop(0)
        name = word.removeprefix("-")
        if name in _FLAGS and word.startswith("-"):
            yield name, ""
        elif name in _VALUES and word.startswith("-"):
            if name == "pe" and len(left) > 1:
                left.pop(0)
            if not left:
                raise ValueError(f"{word!r} has no value")
            yield name, left.pop(0)
        else:
            raise ValueError(f"{word!r} is no option of qsub, and would be taken for the script")


def _allowed(name: str) -> None:
    if name in _ABOUT:
        what = _ABOUT[name]
        raise ValueError(f"-{name}: what a job needs in {what} is said by the job ({what}=…), and by gridengine-pe")
    if name in _OURS:
        raise ValueError(f"-{name} is set by orch itself")


def _resources(text: str) -> list[str]:
    return [each.partition("=")[0].strip() for each in text.split(",")]


def check_resource(name: str, memory: Collection[str]) -> None:
    """May a user ask for this resource by himself? Raises `ValueError`."""
    about = "memory" if name in memory else _LIMITS.get(name, "")
    if about:
        raise ValueError(f"-l {name}: what a job needs in {about} is said by the job itself ({about}=…)")


def passed(backend: Sequence[tuple[str, str]], memory: Collection[str]) -> list[str]:
    """`backend={…}` of a job as arguments: "-P" and its like are options of qsub, all other keys are resources (-l).

    Raises `ValueError` for what orch sets itself.
    """
    arguments = []
    for key, value in backend:
        if not key.startswith("-"):
            check_resource(key, memory)
            arguments += ["-l", f"{key}={value}" if value else key]
            continue
        _allowed(key[1:])
        if key not in BACKEND:
            raise ValueError(f"backend: qsub has no option {key!r}; a resource is named without a dash")
        arguments += [key] if key[1:] in _FLAGS else [key, value]
    return arguments


_NAME = re.compile(r"[^A-Za-z0-9_.=-]+")

MARK = "+"
"""Between the label and the order's name in the name of a job: neither has it."""


def job_name(label: str, name: str) -> str:
    """What qstat shows, of which people see ten characters: the label first. `name` ends it, and is searched for.

    Source: sge_types(5), job_name: printing ASCII without "/", ":", "@", "*", "?" and backslashes, and no digit first;
    commas, brackets and quotes were seen to be taken, and are left out, for patterns and lists know them, too.
    """
    text = _NAME.sub("_", label)[:60].strip("_.=-") or "orch"
    return f"{'_' if text[0].isdigit() else ''}{text}{MARK}{name}"


def order_of(name: str) -> str:
    """The reverse: the order's name in that of a job; empty: it is none of ours."""
    return name.partition(MARK)[2]
