"""`orch.command`: a job that runs a program."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import msgspec

from orch.attempt import CommandSpec
from orch.authoring.nodes import Call, Job, node
from orch.authoring.options import JobOptions, make_options
from orch.environment import inherited, is_secret
from orch.errors import UserError
from orch.files import DirRef, FileRef

_SHORT = 60


@dataclasses.dataclass(frozen=True)
class Program:
    """What `orch.command` was given, checked as far as it can be before the values of its jobs are known."""

    argv: list[Any]
    inputs: dict[str, Any] = dataclasses.field(default_factory=dict)
    stdin: Any = None
    stdout: str | None = None
    stderr: str | None = None
    cwd: Any = None
    env: dict[str, Any] = dataclasses.field(default_factory=dict)
    outputs: dict[str, str] = dataclasses.field(default_factory=dict)


def command(
    argv: Sequence[Any],
    *,
    inputs: Mapping[str, Any] | None = None,
    stdin: Any = None,
    stdout: str | None = None,
    stderr: str | None = None,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, Any] | None = None,
    outputs: Mapping[str, str] | None = None,
    **options: Unpack[JobOptions],
) -> Any:
    """A job that runs a program in its scratch directory; its value is a `CommandResult`.

    `argv`     the program and its arguments: texts, numbers, paths, `FileRef`s and `DirRef`s (which become local
               paths), jobs (which become their values); a list in it is spread out
    `inputs`   files put into the scratch directory under these names, to be read only
    `stdin`    text, bytes, a `FileRef`, or a job with such a value; else empty
    `stdout`   a name: the stream goes to that file in the scratch directory, and is a `FileRef` in the result
    `stderr`   likewise
    `cwd`      where it runs: relative to the scratch directory, made if missing; or absolute, and must exist
    `env`      variables on top of the run's environment, recorded in the log; but what the run's environment has
               anyway is inherited and not recorded, where most of it is given or the name is that of a secret
    `outputs`  what is kept: a name (→ `FileRef`), a pattern (→ a sorted list, which may be empty; inputs are not in
               it), or a name with "/" at its end (→ `DirRef`)

    The rest are options as for `orch.job`. A non-zero exit fails the attempt. Raises `UserError` for what cannot be.
    """
    words = _checked_argv(argv)
    kind = _kind(words[0])
    owner = f"command {kind}"
    if "isolation" in options:
        raise UserError(f"{owner}: a program always has a process of its own; there is no option isolation")
    checked = make_options(owner, options)
    program = Program(
        argv=words,
        inputs={_checked_name(owner, "input", name): _checked_input(owner, name, ref) for name, ref in _items(inputs)},
        stdin=_checked_stdin(owner, stdin),
        stdout=None if stdout is None else _checked_name(owner, "stdout", stdout),
        stderr=None if stderr is None else _checked_name(owner, "stderr", stderr),
        cwd=_checked_cwd(owner, cwd),
        env={_checked_variable(owner, name): value for name, value in _not_inherited(env)},
        outputs={_text(owner, "output", name): _checked_name(owner, "output", path) for name, path in _items(outputs)},
    )
    shown = "" if checked.name else _shown(words, kind)
    body = _plain_body(program)
    if body:
        return node(Call(kind, None, (), {}, checked, name=shown, form="command", body=body))
    return node(Call(kind, _perform(), (program,), {}, checked, name=shown, form="fork"))


def _perform() -> Any:
    from orch.work.program import perform

    return perform


def _items(given: Mapping[str, Any] | None) -> Any:
    return (given or {}).items()


def _not_inherited(env: Mapping[str, Any] | None) -> Any:
    """Without what the program gets anyway, where recording it would give away the environment: `{**os.environ, …}`."""
    given = env or {}
    whole = 2 * len(inherited.keys() & given.keys()) > len(inherited)
    return [
        (name, value)
        for name, value in given.items()
        if not ((whole or is_secret(str(name))) and value == inherited.get(name))
    ]


def _checked_argv(argv: Any) -> list[Any]:
    if isinstance(argv, str | bytes):
        raise UserError(
            f"orch.command takes a list, not a text: each argument is an item of its own, and no shell takes a text "
            f'apart. For {argv!r:.60} write {argv.split()!r:.80}, or ["sh", "-c", {argv!r:.60}]'
        )
    if isinstance(argv, Job) or not isinstance(argv, Sequence):
        raise UserError(f"orch.command takes a list of arguments, and not a {type(argv).__name__}")
    if not argv:
        raise UserError("orch.command needs a program: its list of arguments is empty")
    words = list(argv)
    for position, word in enumerate(words):
        trouble = _word_trouble(word)
        if trouble:
            raise UserError(f"orch.command: argument {position}, {word!r:.80}: {trouble}")
    return words


def _word_trouble(word: Any) -> str:
    """Why this cannot be an argument, as far as it shows already."""
    if isinstance(word, Job | FileRef | DirRef | int | float):
        return ""
    if isinstance(word, list | tuple):
        return next((trouble for trouble in map(_word_trouble, word) if trouble), "")
    if isinstance(word, str | bytes | os.PathLike):
        text = os.fspath(word)
        zero = b"\0" if isinstance(text, bytes) else "\0"
        return "an argument cannot hold a NUL character" if zero in text else ""
    return (
        _hint(word)
        or f"a {type(word).__name__} cannot be an argument: give a text, a number, a path, a FileRef or a job"
    )


def _hint(given: Any) -> str:
    from orch.authoring.pickling import misplaced  # only for a mistake

    return misplaced(given)


def _kind(first: Any) -> str:
    if isinstance(first, FileRef):
        return first.name
    if isinstance(first, str | os.PathLike):
        return os.path.basename(os.fspath(first)) or "command"
    return "command"


def _shown(words: list[Any], kind: str) -> str:
    texts = [kind, *(word if isinstance(word, str) else _short(word) for word in words[1:8])]
    text = " ".join(" ".join(texts).split())
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 1]}…"


def _short(word: Any) -> str:
    if isinstance(word, FileRef | DirRef):
        return word.name
    return str(word) if isinstance(word, int | float | os.PathLike) else "…"


def _checked_input(owner: str, name: str, ref: Any) -> Any:
    if not isinstance(ref, FileRef | DirRef | Job):
        hint = _hint(ref) or (
            "an input is a FileRef or a DirRef, or a job whose value is one "
            "(orch.import_file brings a file into the store)"
        )
        raise UserError(f"{owner}: input {name!r} is {ref!r:.80}, a {type(ref).__name__}: {hint}")
    return ref


def _checked_stdin(owner: str, stdin: Any) -> Any:
    if stdin is not None and not isinstance(stdin, str | bytes | FileRef | Job):
        raise UserError(
            _hint(stdin) or f"{owner}: stdin is a {type(stdin).__name__}: give a text, bytes, a FileRef or a job"
        )
    return stdin


def _text(owner: str, what: str, given: Any) -> str:
    if not isinstance(given, str) or not given:
        raise UserError(f"{owner}: {what} {given!r:.80} must be a text that is not empty")
    return given


def _checked_name(owner: str, what: str, given: Any) -> str:
    """A relative name that stays inside the scratch directory."""
    name = _text(owner, what, os.fspath(given) if isinstance(given, os.PathLike) else given)
    if name.startswith("/") or ".." in name.split("/") or "\0" in name or name.strip("./") == "":
        raise UserError(
            f"{owner}: {what} {name!r} must be a name inside the scratch directory (no '/' at first, no '..')"
        )
    return name


def _checked_cwd(owner: str, cwd: Any) -> Any:
    if cwd is None or isinstance(cwd, Job):
        return cwd
    text = _text(owner, "cwd", os.fspath(cwd) if isinstance(cwd, os.PathLike) else cwd)
    if not text.startswith("/") and ".." in text.split("/"):
        raise UserError(
            f"{owner}: cwd {text!r} leads out of the scratch directory; give an absolute path if that is meant"
        )
    return text


def _checked_variable(owner: str, name: Any) -> str:
    if not isinstance(name, str) or not name or "=" in name or "\0" in name:
        raise UserError(f"{owner}: {name!r:.80} cannot be the name of an environment variable")
    return name


def _plain_body(program: Program) -> bytes:
    """The body for the agent, where nothing needs Python to prepare or to collect; else empty."""
    if program.inputs or program.outputs or program.stdout or program.stderr or program.cwd is not None:
        return b""
    if program.stdin is not None and not isinstance(program.stdin, str | bytes):
        return b""
    if not all(map(_is_plain, program.argv)) or not all(map(_is_plain, program.env.values())):
        return b""
    stdin = program.stdin.encode() if isinstance(program.stdin, str) else program.stdin or b""
    spec = CommandSpec(
        argv=[plain_text(word) for word in program.argv],
        env={name: plain_text(value) for name, value in program.env.items()},
        stdin=stdin,
    )
    try:
        return msgspec.json.encode(spec)
    except UnicodeEncodeError:  # file names that are no text: JSON has no such thing, pickle does
        return b""


def _is_plain(word: Any) -> bool:
    return isinstance(word, str | int | float) or (isinstance(word, os.PathLike) and isinstance(os.fspath(word), str))


def plain_text(word: Any) -> str:
    """A text, number or path as a program gets it."""
    return os.fspath(word) if isinstance(word, os.PathLike) else str(word)
