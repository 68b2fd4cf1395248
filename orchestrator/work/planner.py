"""The planner: a short-lived process that imports a workflow and runs its function once, to make the root graph.

Started by the leader as `python -P -m orch.work.planner`; requests come on stdin, answers go to what was
stdout. What user code prints goes to stderr.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, BinaryIO, NoReturn, TypeVar

import msgspec

from orch.attempt import Note, Plan
from orch.authoring.collect import collect
from orch.authoring.nodes import FOLLOW_ON
from orch.authoring.pickling import Unpickler, has_parts
from orch.authoring.scope import Scope
from orch.environment import inherited, unpacked
from orch.errors import OrchError, WorkflowError
from orch.work.assemble import result
from orch.work.context import Context, Who
from orch.work.execute import call_function, can_type, is_debugger_left
from orch.work.framing import HEADER, Answer, Describe, Described, Load, Made, MakePlan, Request, Trouble, frames
from orch.work.guard import set_busy
from orch.work.loader import LoadedWorkflow, load
from orch.work.options import describe, parse_argv
from orch.work.surroundings import Surroundings
from orch.work.traces import short_trace, shown_name

T = TypeVar("T")


def main() -> None:
    """Serve until the leader closes the pipe."""
    answers = os.dup(1)
    requests = take_stdin()
    os.dup2(2, 1)
    converse(os.fdopen(requests, "rb"), os.fdopen(answers, "wb"), Trouble("WorkflowError", "nothing was loaded"))


def converse(requests: BinaryIO, answers: BinaryIO, loaded: LoadedWorkflow | Trouble) -> NoReturn:
    """Answer until there are no more requests; then end this process."""
    while header := requests.read(HEADER.size):
        request = msgspec.msgpack.decode(requests.read(HEADER.unpack(header)[0]), type=Request)
        if isinstance(request, Load):
            loaded = load_for(request)
            continue
        answers.writelines(frames(loaded if isinstance(loaded, Trouble) else _answer(loaded, request)))
        answers.flush()
    sys.stderr.flush()
    os._exit(0)  # user code may have left threads behind; there is nothing to wait for


def take_stdin() -> int:
    """Keep what comes from the leader away from user code: it gets an empty stdin. The descriptor of the real one."""
    taken = os.dup(0)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it is a file here
    return taken


def load_for(request: Load) -> LoadedWorkflow | Trouble:
    """Import the workflow as it was asked for; what went wrong, if anything did."""
    environment = unpacked(request.environment)
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)
    inherited.update(environment)
    if request.cwd:
        os.chdir(request.cwd)
    return _attempt(lambda: load(request.bundle))


def _answer(loaded: LoadedWorkflow, request: Describe | MakePlan) -> Answer:
    def answer() -> Answer:
        if isinstance(request, Describe):
            return Described(describe(loaded.workflow().__wrapped__))
        return Made(make_plan(loaded, request))

    return _attempt(answer)


def _attempt(work: Callable[[], T]) -> T | Trouble:
    try:
        return work()
    except OrchError as error:  # user text may have halves of characters
        return Trouble(type(error).__name__, str(error).encode("utf-8", "backslashreplace").decode())
    except MemoryError:
        return Trouble("WorkflowError", "the workflow cannot be planned: out of memory")
    except BaseException as error:  # noqa: BLE001 - a mistake of ours is told like the user's, with all its frames
        import traceback

        return Trouble("WorkflowError", f"planning broke: {''.join(traceback.format_exception(error)).strip()}")


def make_plan(loaded: LoadedWorkflow, request: MakePlan) -> Plan:
    """Call the workflow function and collect its jobs. Raises `WorkflowError`, `GraphError` …"""
    workflow = loaded.workflow()
    who = Who(key=f"plan-{request.run}", run=request.run, job=0, attempt=1, label=f"workflow {workflow.name}")
    with (
        Surroundings(request.place.scratch, f"{who.key}-{os.getpid()}", "") as around,
        Context(who, request.place, around.path, _say) as context,
        Scope() as scope,
    ):
        args, kwargs = _arguments(loaded, workflow.__wrapped__, request)
        set_busy(f"planning workflow {workflow.name}")
        try:
            value = _called(workflow.__wrapped__, workflow.name, args, kwargs)
        finally:
            set_busy("")
        if has_parts(value):  # a miss must fail the run, and so somebody has to look before it ends
            value = _assembled(value, scope, context)
        parts = collect(value, scope.calls, context.keep, shown_name)
        return Plan(
            value=parts.value,
            refs=parts.refs,
            alias=parts.alias,
            jobs=parts.jobs,
            files=context.files,
            warnings=parts.warnings,
        )


def _assembled(value: Any, scope: Scope, context: Context) -> Any:
    """A job that puts the value together. Where that may hold follow-ons of the workflow, it is one of them itself."""
    after = any(call.ties is not None and call.ties.above.get(None) == FOLLOW_ON for call in scope.calls)
    return context.add_follow_on(result(value)) if after else result(value)


def _arguments(
    loaded: LoadedWorkflow, function: Callable[..., Any], request: MakePlan
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if request.argv is not None:
        return (), parse_argv(function, request.argv)
    if not request.arguments:
        return (), {}
    try:
        args, kwargs = Unpickler(request.arguments, _no_jobs, loaded.renamed).load()
    except Exception as error:  # unpickling runs user code
        raise WorkflowError(f"the arguments cannot be read by the workflow: {type(error).__name__}: {error}") from error
    return args, kwargs


def _no_jobs(_number: int, _path: tuple[Any, ...]) -> Any:
    raise WorkflowError("a job cannot be an argument of a workflow")


def _called(function: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    import inspect

    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        raise WorkflowError(f"workflow {name}: {error}; its parameters are {inspect.signature(function)}") from error
    try:
        return call_function(function, args, kwargs)
    except SystemExit as error:
        raise WorkflowError(f"workflow {name} called sys.exit({error.code}) instead of returning") from error
    except BaseException as error:  # user code may raise anything
        if is_debugger_left(error):
            why = (
                "the debugger was left"
                if can_type()
                else "breakpoint() has no terminal here: use orch run --in-process"
            )
            raise WorkflowError(f"workflow {name}: {why}") from None
        raise WorkflowError(f"workflow {name} failed:\n{short_trace(error)}") from error


def _say(note: Note) -> None:
    """There is no job yet that a line could belong to."""
    print(f"{note.name or note.level}: {note.value}", file=sys.stderr)  # noqa: T201 - the leader passes it on


if __name__ == "__main__":
    main()
