"""The body of a command that Python prepares and collects: files in, the program, files out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from orch.authoring.commands import Program, plain_text
from orch.errors import JobError
from orch.files import DirRef, FileRef
from orch.results import CommandResult
from orch.store.private import make_private, open_private
from orch.store.tree import STAGED
from orch.work.capture import Capture, copy_streams
from orch.work.context import Context, context
from orch.work.failure import ProgramFailed
from orch.work.staging import Print, fingerprint

NOT_FOUND = 127
NOT_EXECUTABLE = 126
_LISTED = 20

Staged = Mapping[Path, tuple[FileRef | DirRef, Print]]
"""Inputs by their paths in the scratch directory, and what they looked like before the program ran."""


def perform(program: Program) -> CommandResult:
    """Run the program in the scratch directory. Raises `ProgramFailed`, or `JobError` for what surrounds it."""
    here = context()
    staged = _stage_inputs(here, program.inputs)
    argv = [word for given in program.argv for word in render(here, given)]
    directory = _directory(here, program.cwd)
    environment = {**os.environ, **{name: _one(here, name, value) for name, value in program.env.items()}}
    captured = _run(here, program, argv, directory, environment)
    streams = {"stdout": program.stdout, "stderr": program.stderr}
    values: dict[str, Any] = {
        stream: captured[stream] if name is None else here.write_file(_inside(here, stream, here.scratch / name))
        for stream, name in streams.items()
    }
    outputs = {name: _collect(here, name, path, staged) for name, path in program.outputs.items()}
    return CommandResult(0, values["stdout"], values["stderr"], outputs)


# Before -----------------------------------------------------------------------------------------------------------


def _stage_inputs(here: Context, inputs: Mapping[str, Any]) -> Staged:
    """Put inputs into the scratch directory; which path holds which."""
    staged: dict[Path, tuple[FileRef | DirRef, Print]] = {}
    for name, ref in inputs.items():
        if not isinstance(ref, FileRef | DirRef):
            raise JobError(f"input {name!r} is {ref!r:.80}, a {type(ref).__name__}, and must be a FileRef or a DirRef")
        path = here.read_file(ref, to=name)
        staged[path] = (ref, fingerprint(path))
    return staged


def render(here: Context, given: Any) -> Iterator[str]:
    """An argument as texts; a list is spread out. Raises `JobError`."""
    if isinstance(given, list | tuple):
        for one in given:
            yield from render(here, one)
    elif isinstance(given, FileRef | DirRef):
        yield str(here.read_file(given))
    elif isinstance(given, bytes):
        yield os.fsdecode(given)
    elif isinstance(given, str | int | float | os.PathLike):
        yield plain_text(given)
    else:
        raise JobError(
            f"the argument {given!r:.80} is a {type(given).__name__}: give a text, a number, a path or a FileRef"
        )


def _one(here: Context, name: str, value: Any) -> str:
    words = list(render(here, value))
    if len(words) != 1:
        raise JobError(f"the variable {name} must be one text, and is {value!r:.80}")
    return words[0]


def _directory(here: Context, cwd: Any) -> Path:
    if cwd is None:
        return here.scratch
    directory = Path(os.path.normpath(here.scratch / _one(here, "cwd", cwd)))  # a job may have said "../.."
    if here.scratch in directory.parents:
        make_private(str(directory))
    elif not directory.is_dir():
        raise JobError(f"cwd {str(directory)!r} is not a directory on this host")
    return directory


def _stdin(here: Context, given: Any) -> tuple[IO[bytes] | int, bytes]:
    """What the program gets as its stdin: a file, or a pipe and what to write to it."""
    if given is None:
        return subprocess.DEVNULL, b""
    if isinstance(given, FileRef):
        return here.read_file(given).open("rb"), b""
    if isinstance(given, str | bytes):
        return subprocess.PIPE, given.encode() if isinstance(given, str) else given
    raise JobError(f"stdin is {given!r:.80}, a {type(given).__name__}: give a text, bytes or a FileRef")


# The program --------------------------------------------------------------------------------------------------------


def _run(
    here: Context, program: Program, argv: list[str], directory: Path, environment: dict[str, str]
) -> dict[str, str]:
    """Run it to its end; what was captured of its streams. Raises `ProgramFailed` unless it exits with 0."""
    stdin, data = _stdin(here, program.stdin)
    files = [_redirect(here, name) for name in (program.stdout, program.stderr)]
    captures = [Capture(here.who.max_log, sys.__stdout__), Capture(here.who.max_log, sys.__stderr__)]
    try:
        with subprocess.Popen(
            argv,
            stdin=stdin,
            stdout=files[0] or subprocess.PIPE,
            stderr=files[1] or subprocess.PIPE,
            cwd=directory,
            env=environment,
        ) as process:
            copy_streams(process, data, captures)
            code = process.wait()
    except (OSError, ValueError) as error:
        raise _not_started(argv[0], directory, environment, error) from error
    finally:
        for file in (stdin, *files):
            if file is not None and not isinstance(file, int):
                file.close()
    _check_exit(code)
    return dict(zip(("stdout", "stderr"), (capture.text() for capture in captures), strict=True))


def _redirect(here: Context, name: str | None) -> IO[bytes] | None:
    if name is None:
        return None
    path = here.scratch / name
    make_private(str(path.parent))
    if path.is_symlink():  # an input of that name: what it leads to is the store's
        path.unlink()
    return open(path, "wb", opener=open_private)


def _check_exit(code: int) -> None:
    if code > 0:
        raise ProgramFailed(f"exit code {code}", code=code)
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        raise ProgramFailed(f"killed by {name}", signal=-code)


def _not_started(name: str, directory: Path, environment: Mapping[str, str], error: Exception) -> ProgramFailed:
    """As shells do: 127 for a program that is not there, 126 for one that cannot be executed."""
    if isinstance(error, FileNotFoundError) and error.filename != str(directory):
        where = "" if "/" in name else f" in PATH ({len(os.get_exec_path(environment))} directories)"
        return ProgramFailed(f"there is no program {name!r}{where}", code=NOT_FOUND)
    return ProgramFailed(f"{name!r} cannot be run: {error}", code=NOT_EXECUTABLE)


# After --------------------------------------------------------------------------------------------------------------


def _collect(here: Context, name: str, path: str, staged: Staged) -> Any:
    """One output: a `FileRef`, a `DirRef`, or a list of `FileRef`s for a pattern. Raises `JobError`."""
    if path.endswith("/"):
        return _directory_output(here, name, path, staged)
    if any(letter in path for letter in "*?["):
        found = sorted(
            file for file in here.scratch.glob(path) if not _is_staged(here, file, staged) and not file.is_dir()
        )
        return [here.write_file(_inside(here, name, file)) for file in found]
    file = here.scratch / path
    if _unchanged(file, staged):
        return staged[file][0]
    if file.is_dir():
        raise JobError(f"output {name!r}: {path!r} is a directory; write {path + '/'!r} to keep it")
    if not file.exists():
        raise _missing(here, name, path)
    return here.write_file(_inside(here, name, file))


def _directory_output(here: Context, name: str, path: str, staged: Staged) -> Any:
    directory = here.scratch / path.rstrip("/")
    if _unchanged(directory, staged):
        return staged[directory][0]
    if not directory.is_dir():
        raise _missing(here, name, path)
    return here.write_dir(_inside(here, name, directory))


def _unchanged(path: Path, staged: Staged) -> bool:
    return path in staged and fingerprint(path) == staged[path][1]


def _is_staged(here: Context, file: Path, staged: Staged) -> bool:
    own = here.scratch / STAGED
    return any(path in staged or path == own for path in (file, *file.parents))


def _inside(here: Context, name: str, path: Path) -> Path:
    """The path, if it is in the scratch directory really. Raises `JobError` for a link that leads out of it."""
    real = path.resolve()
    if here.scratch.resolve() not in real.parents:
        raise JobError(
            f"output {name!r}: {path.relative_to(here.scratch)} is a link to {real}, outside of the scratch directory"
        )
    return path


def _missing(here: Context, name: str, path: str) -> JobError:
    there = sorted(
        f"{file.relative_to(here.scratch)}{'/' if file.is_dir() else ''}"
        for file in here.scratch.rglob("*")
        if not _is_staged(here, file, {})
    )
    shown = ", ".join(there[:_LISTED]) + (f" and {len(there) - _LISTED} more" if len(there) > _LISTED else "")
    return JobError(f"output {name!r}: there is no {path!r}; in the scratch directory: {shown or 'nothing'}")
