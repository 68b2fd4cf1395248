"""Services of all kinds: what becomes of them is written down in a file that all write to."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import orch
from flows.related import named
from flows.served import Server, wait, write


@orch.job(cores=0.1)
def use(said: str, name: str, *credentials: Any) -> list[Any]:
    write(said, f"+{name}")
    write(said, f"-{name}")
    return [each["name"] for each in credentials]


@orch.workflow
def tree(said: str) -> Any:
    """Services a, b after a, and c after b; a job's children and follow-ons have them."""
    host = named(said, "host")
    a = Server(said, "a")
    first = host.add_service(a)
    second = host.add_service(Server(said, "b", first["name"]), parent=a)
    third = host.add_service(Server(said, "c", second["below"]), parent=second)
    child = host.add_child(orch.as_job(use(said, "child", first, second, third)))
    child.add_child(named(said, "below"))
    host.add_follow_on(orch.as_job(use(said, "last", first)))
    return {"child": child, "c": third["below"], "host": host}


class Looped(orch.Service):
    """Async: a server in the background of its event loop answers while the service waits."""

    def __init__(self, said: str) -> None:
        super().__init__(name="looped", cores=0.1, check_interval="10ms")
        self.said = said

    async def start(self) -> Any:
        self.server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        return {"name": "looped", "port": self.server.sockets[0].getsockname()[1]}

    async def _answer(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"process {os.getpid()}".encode())
        writer.close()

    async def check(self) -> bool:
        await asyncio.sleep(0)
        return self.server.is_serving()

    async def stop(self) -> None:
        self.server.close()
        await self.server.wait_closed()
        write(self.said, "-looped")


@orch.job(cores=0.1)
async def call(credentials: Any) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", credentials["port"])
    answer = await reader.read()
    writer.close()
    return answer.decode().split()[0]


@orch.workflow
def asynchronous(said: str) -> Any:
    up = orch.context().add_service(Looped(said))
    return [call(up), call(up), call(up)]


@orch.job(cores=0.1)
def has_service(said: str) -> Any:
    """A job that adds a service to itself, for the jobs that it makes."""
    context = orch.context()
    up = context.add_service(Server(said, "inner", named(said, "made for it")))
    context.add_child(named(said, "child"))
    return use(said, "value", up)


@orch.workflow
def everywhere(said: str) -> Any:
    """A service of the workflow, one inside a job, one for a job, that needs the value of another."""
    outer = orch.context().add_service(Server(said, "outer"))
    inside = has_service(said)
    host = named(said, "host", outer["name"])
    beside = host.add_service(Server(said, "beside", named(said, "early")))
    host.add_child(orch.as_job(use(said, "user", outer, beside)))
    return {"inside": inside, "below": orch.as_job(show(beside["below"]))}


@orch.job(cores=0.1)
def show(value: Any) -> Any:
    return value


class Odd(Server):
    """A server with which something is wrong: it says so, or raises, and may be well the next time.

    What is wrong with a check is so once the line `after` has been written.
    """

    def __init__(self, said: str, name: str, how: str, after: str, **options: Any) -> None:
        super().__init__(said, name, **options)
        self.how = how
        self.after = after
        self.checked = False

    def start(self) -> Any:
        self._fail("start")
        return super().start()

    def check(self) -> bool:
        with open(self.said, encoding="utf-8") as file:
            now = f"+{self.after}\n" in file and not self.checked
        if now:
            self.checked = True
            write(self.said, f"checked {self.called}")
            self._fail("check")
            return self.how != "ends"
        return True

    def stop(self) -> None:
        super().stop()
        self._fail("stop")

    def _fail(self, what: str) -> None:
        if self.how == what or (self.how == f"{what} once" and orch.context().attempt == 1):
            raise ConnectionError(f"no luck with {what} of {self.called}")


@orch.job(cores=0.1)
def wait_for(said: str, line: str, pipe: str, credentials: Any) -> str:
    """Ends when there is a byte in a pipe; gives the service's process."""
    write(said, f"+{line} {orch.context().attempt}")
    wait(pipe)
    return f"{credentials['pid']}"


@orch.workflow
def odd(said: str, how: str, retries: int = 0, pipe: str = "", interval: str = "5ms") -> Any:
    host = named(said, "host")
    after = "user 1" if pipe else "db"
    service = Odd(said, "db", how, after, retries=retries, retry_backoff=0, check_interval=interval)
    up = host.add_service(service)
    if pipe:
        return host.add_child(orch.as_job(wait_for(said, "user", pipe, up)))
    return host.add_child(orch.as_job(use(said, "user", up)))


@orch.workflow
def one_after_the_other(said: str, preemptible: bool = False) -> Any:
    """Three jobs with a service each."""
    users = []
    for name in "abc":
        host = named(said, f"host {name}")
        up = host.add_service(Server(said, name, preemptible=preemptible))
        users.append(host.add_child(orch.as_job(use(said, f"user {name}", up))))
    return users


@orch.workflow
def too_big(said: str, cores: float = 0.5) -> Any:
    """A service that leaves no room for its user, nor for a service that nobody uses."""
    host = named(said, "host")
    up = host.add_service(Server(said, "big", cores=cores))
    beside = named(said, "beside")
    beside.add_service(Server(said, "idle", cores=0.5))
    return [host.add_child(orch.as_job(use.options(cores=0.5, name="user")(said, "user", up))), beside]


@orch.job(cores=0.1)
def fail(said: str, *credentials: Any) -> int:
    """Well once somebody has mended what is wrong: there is another file then."""
    write(said, "+fail")
    if not os.path.exists(f"{said}.mended"):
        raise ValueError("no good")
    pid: int = credentials[0]["pid"]
    return pid


@orch.workflow
def fails(said: str) -> Any:
    """One of two jobs that use services fails; the other goes on."""
    host = named(said, "host")
    lower = Server(said, "lower")
    up = host.add_service(lower)
    top = host.add_service(Server(said, "upper"), parent=lower)
    failing = host.add_child(orch.as_job(fail(said, up)))
    fine = host.add_child(orch.as_job(use(said, "user", up, top)))
    return [fine, host.add_follow_on(named(said, "last")), failing]


@orch.workflow
def pointless(said: str) -> Any:
    """Nobody comes after the job that has services."""
    host = named(said, "host")
    lower = Server(said, "lower")
    host.add_service(lower)
    host.add_service(Server(said, "upper"), parent=lower)
    return host
