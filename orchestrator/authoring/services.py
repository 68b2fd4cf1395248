"""`orch.Service`: what runs beside jobs, for them, and stops when they are done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, Self, Unpack

from orch.authoring.classes import Portrait, check_method
from orch.authoring.functions import kind_of
from orch.authoring.nodes import Call, Job, node, short_call
from orch.authoring.options import DEFAULT, Options, ServiceOptions, make_options
from orch.authoring.relations import AFTER, SERVICE, check_upper, tie
from orch.errors import GraphError, UserError, WorkflowError
from orch.sizes import parse_duration

CHECK_INTERVAL = 5.0
"""Seconds between two checks of a service that does not say."""

_OF_JOBS = ("add_child", "add_follow_on", "add_service", "encapsulate")


class Service:
    """What runs beside the children and follow-ons of a job. Derive from it, and hand an object to `add_service`.

        class Database(orch.Service):
            def __init__(self, port):
                super().__init__(memory="1 GiB", retries=2, check_interval="5s")
                self.port = port

            def start(self):
                self.server = subprocess.Popen(["database", "--port", str(self.port)])
                return {"host": socket.gethostname(), "port": self.port}

            def check(self):
                return self.server.poll() is None

            def stop(self):
                self.server.terminate()

    `start`, `check` and `stop` may be `async`, and are called on one object in one process. `super().__init__` takes a
    job's options, and `check_interval`, a duration.
    """

    __slots__ = ("_interval", "_node", "_options", "_shown")

    _interval: float
    _node: Call | None
    _options: Options
    _shown: str

    if not TYPE_CHECKING:  # what a class takes, its __init__ says

        def __new__(cls, *args: Any, **kwargs: Any) -> Self:
            """With the run's defaults, which its own `__init__` may change."""
            if cls is Service or cls.start is Service.start:
                raise UserError(f"class {cls.__qualname__} has no method start: an orch.Service gives its value there")
            for method in ("start", "check", "stop"):
                check_method(cls, method, "it is hidden by an attribute")
            service = object.__new__(cls)
            service._interval, service._node, service._options = CHECK_INTERVAL, None, DEFAULT
            service._shown = short_call(kind_of(cls), args, kwargs)
            return service

    def __init__(self, *, check_interval: str | float = CHECK_INTERVAL, **options: Unpack[ServiceOptions]) -> None:
        owner = f"service {kind_of(type(self))}"
        for option in ("checkpoint", "cache", "version", "isolation"):
            if options.get(option) is not None:
                raise UserError(f"{owner}: a service has no option {option}")
        self._options = make_options(owner, options)
        self._shown = self._options.name or self._shown
        try:
            self._interval = parse_duration(check_interval)
        except ValueError as error:
            raise UserError(f"{owner}: check_interval={check_interval!r}: {error}") from None  # the message says it all

    def start(self) -> Any:
        """Start it. What this returns is the value that stands for the service: its credentials."""
        raise NotImplementedError  # each service has its own; `check` and `stop` may be left out

    def check(self) -> Any:
        """Called now and then. False: the service has come to its end, which is well. An exception: it has failed."""
        return True

    def stop(self) -> Any:
        """Called once, when nothing needs it any more, or after it has failed."""

    if not TYPE_CHECKING:  # type checkers should still find mistakes

        def __getattr__(self, name: str) -> NoReturn:
            """Only for what is not there: what jobs have, and services have not."""
            if name in _OF_JOBS:
                raise AttributeError(
                    f"service {kind_of(type(self))} has no {name}: nothing belongs to a service. Add it to the job "
                    f"that the service is for"
                )
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def __getstate__(self) -> Any:
        """Its attributes, without what is ours."""
        state = object.__getstate__(self)
        if not isinstance(state, tuple):
            return state
        slots = {name: value for name, value in state[1].items() if name not in Service.__slots__}
        return (state[0], slots) if slots else state[0]

    def __reduce__(self) -> Any:
        raise WorkflowError(
            f"the service {kind_of(type(self))} cannot be passed on: pass what add_service gave, which stands for what "
            f"its start() returns"
        )


def add_service(upper: Call | None, service: Any, parent: Any) -> Any:
    """Have `service` run for `upper` (None: the running job). Raises `GraphError`, `UserError`."""
    if not isinstance(service, Service):
        raise UserError(
            f"add_service takes an object of a class that derives from orch.Service, and not {service!r:.80}"
        )
    if service._node is not None:  # noqa: SLF001 - one unit
        raise GraphError(f"service {service._shown} {_runs_for(service._node)} already: make another object")  # noqa: SLF001
    from orch.work.services import serve

    call = Call(
        kind_of(type(service)),
        serve,
        (Portrait(service),),
        {"interval": service._interval},  # noqa: SLF001 - one unit
        service._options,  # noqa: SLF001 - one unit
        name=service._shown,  # noqa: SLF001 - one unit
        form="service",
        depth=3,
    )
    check_upper(upper, call, SERVICE)
    before = None if parent is None else _parent(call, upper, parent)
    tie(upper, call, SERVICE)
    if before is not None:
        tie(before, call, AFTER)
    service._node = call  # noqa: SLF001 - one unit
    return node(call)


def _parent(call: Call, upper: Call | None, parent: Any) -> Call:
    """The call of the service that must be up first. Raises `GraphError` unless it serves the same job."""
    before = parent._node if isinstance(parent, Service) else parent._call if isinstance(parent, Job) else None  # noqa: SLF001 - one unit
    if before is None or before.form != "service":
        shown = parent._shown if isinstance(parent, Service) else f"{parent!r:.80}"  # noqa: SLF001 - one unit
        raise GraphError(
            f"service {call.label} cannot start after {shown}, which is no service that was added to a job: add that "
            f"first, and give it, or what add_service gave, as the parent"
        )
    if upper not in _served_by(before):
        raise GraphError(
            f"service {call.label} cannot start after service {before.label}, which {_runs_for(before)}: both must be "
            f"added to the same job"
        )
    return before


def _served_by(service: Call) -> list[Call | None]:
    above = service.ties.above if service.ties else {}
    return [upper for upper, relation in above.items() if relation is SERVICE]


def _runs_for(service: Call) -> str:
    return " and ".join(
        "runs for the job that makes it" if upper is None else f"runs for job {upper.label}"
        for upper in _served_by(service)
    )
