"""Services: how they come into the records of new jobs, and what they may not be."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from support.graphs import RUNNING, made, named, relations

import orch
from orch.authoring.pickling import loads
from orch.errors import GraphError, JobError, SizeError, UserError, WorkflowError


class Database(orch.Service):
    def __init__(self, port: Any = 1, **options: Any) -> None:
        super().__init__(**options)
        self.port = port

    def start(self) -> Any:
        return {"port": self.port}


class Plain(orch.Service):
    async def start(self) -> str:
        return "up"


def test_a_service_runs_for_its_job_and_its_node_stands_for_what_start_gives() -> None:
    def build() -> Any:
        a = named("a")
        credentials = a.add_service(Database(5432, name="db"))
        a.add_child(named("user", credentials["port"]))
        return a

    parts = made(build)
    assert relations(parts.jobs) == {
        "a": {},
        "db": {"serves": "a"},
        "user": {"parents": ["a"], "needs": ["db"]},
    }
    assert [new.form for new in parts.jobs] == ["fork", "service", "fork"]
    assert parts.jobs[1].kind == "Database"


def test_the_body_is_the_object_and_how_often_it_is_checked() -> None:
    def build() -> Any:
        size = named("size")
        return [orch.context().add_service(Database(size, check_interval="2 min"))]

    parts = made(build)
    record = parts.jobs[parts.refs[0]]
    function, (service,), named_arguments = loads(record.body.data, lambda number, _: f"value {number}")
    assert (function.__module__, function.__qualname__) == ("orch.work.services", "serve")
    assert named_arguments == {"interval": 120.0}
    assert type(service) is Database
    assert vars(service) == {"port": "value 0"}
    assert (service.start(), service.check(), service.stop()) == ({"port": "value 0"}, True, None)


def test_services_of_the_running_job_start_in_the_order_of_a_tree() -> None:
    def build() -> Any:
        first = Database(name="first")
        up = orch.context().add_service(first)
        orch.context().add_service(Database(name="by object"), parent=first)
        orch.context().add_service(Database(name="by node"), parent=up["port"])

    assert relations(made(build, RUNNING).jobs) == {
        "first": {"serves": "MAKER"},
        "by object": {"serves": "MAKER", "parents": ["first"]},
        "by node": {"serves": "MAKER", "parents": ["first"]},
    }


def test_options_of_services() -> None:
    service = Database(
        9, memory="1 GiB", cores=2, retries=3, accelerators=1, preemptible=True, local=True, priority=2, walltime="1h"
    )
    record = made(lambda: named("a").add_service(service)).jobs[1]
    assert (record.resources.memory, record.resources.cores, record.preemptible) == (2**30, 2.0, True)
    assert (record.retries, record.local, record.priority) == (3, True, 2)
    assert record.name.startswith("Database(9, memory='1 GiB'")
    assert made(lambda: named("a").add_service(Plain())).jobs[1].name == "Plain()"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory": "much"}, "service Database: memory='much'"),
        ({"check_interval": "often"}, "service Database: check_interval='often': 'often' is not a duration"),
        ({"checkpoint": True}, "service Database: a service has no option checkpoint"),
        ({"cache": True}, "a service has no option cache"),
        ({"isolation": "pool"}, "a service has no option isolation"),
        ({"memroy": 1}, "service Database: unknown option 'memroy'; did you mean 'memory'?"),
    ],
)
def test_options_that_a_service_cannot_have(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as raised:
        Database(**options)
    assert message in str(raised.value)


def test_a_bad_interval_is_a_size_error_underneath() -> None:
    with pytest.raises(UserError) as raised:
        Database(check_interval=-1)
    assert isinstance(raised.value.__context__, SizeError)


def test_a_service_says_how_it_starts() -> None:
    class Empty(orch.Service): ...

    class Odd(orch.Service):
        def start(self) -> Any:
            yield 1

    with pytest.raises(UserError, match=r"class .*Empty has no method start"):
        Empty()
    with pytest.raises(UserError, match=r"Odd.start is a generator"):
        Odd()
    with pytest.raises(UserError, match="class Service has no method start"):
        orch.Service()


@pytest.mark.parametrize("what", [Database, 3, None])
def test_only_services_are_added_as_services(what: Any) -> None:
    with pytest.raises(UserError, match=r"add_service takes an object of a class that derives from orch\.Service"):
        named("a").add_service(what)


def test_a_service_runs_for_one_job() -> None:
    database = Database(name="db")
    a = named("a")
    a.add_service(database)
    for job in (a, named("b")):
        with pytest.raises(GraphError, match="service db runs for job a already: make another object"):
            job.add_service(database)


def test_a_service_is_no_child_and_has_none() -> None:
    a, b = named("a"), named("b")
    up = a.add_service(Database(name="db"))
    with pytest.raises(GraphError, match=r"service db cannot be a child of job b: .* it was added to, job a$"):
        b.add_child(up)
    with pytest.raises(GraphError, match="service db cannot be a follow-on of job a"):
        a.add_follow_on(up)
    with pytest.raises(GraphError, match=r"b cannot be a child of service db: .* is for, job a$"):
        up.add_child(b)
    with pytest.raises(GraphError, match=r"service\(2\) cannot be a service of service db: .* is for, job a$"):
        up.add_service(Database(name="service(2)"))
    with pytest.raises(GraphError, match="service db cannot be encapsulated: it runs for job a"):
        up.encapsulate()


def test_a_checkpoint_has_no_services_when_it_is_added() -> None:
    with pytest.raises(GraphError, match="db cannot be a service of job a, which is a checkpoint"):
        named("a", checkpoint=True).add_service(Database(name="db"))


def test_parents_of_services_are_services_of_the_same_job() -> None:
    a, b = named("a"), named("b")
    other = b.add_service(Database(name="other"))
    with pytest.raises(GraphError, match="service db cannot start after service other, which runs for job b: both"):
        a.add_service(Database(name="db"), parent=other)
    with pytest.raises(GraphError, match="service db cannot start after <job b>, which is no service that was added"):
        a.add_service(Database(name="db"), parent=b)
    with pytest.raises(GraphError, match="service db cannot start after loose, which is no service that was added"):
        a.add_service(Database(name="db"), parent=Database(name="loose"))


def test_a_service_is_no_value() -> None:
    with pytest.raises(WorkflowError, match="the service Database cannot be passed on: pass what add_service gave"):
        made(lambda: named("a", Database()))


def test_a_service_cannot_need_what_waits_for_it() -> None:
    def build(value: Any) -> Any:
        a = named("a")
        child = a.add_child(named("child"))
        a.add_service(Database(child if value else named("before"), name="db"))
        return a

    made(lambda: build(value=False))
    with pytest.raises(GraphError) as raised:
        made(lambda: build(value=True))
    assert str(raised.value) == (
        "job db waits for the value of child, which can only be known after db itself: "
        "child is a child of a; db is a service of a"
    )


def test_what_cannot_be_pickled_is_named_by_its_attribute() -> None:
    with pytest.raises(WorkflowError, match=r"job Database\(…\): attribute 'port', item \['x'\]: cannot pickle"):
        made(lambda: named("a").add_service(Database({"x": (n for n in [1])})))


def test_a_service_of_the_workflow_may_need_jobs_beside_it() -> None:
    def build(*, child: bool) -> Any:
        size = named("size")
        if child:
            orch.context().add_child(size)
        up = orch.context().add_service(Database(size, name="db"))
        return named("user", up)

    made(lambda: build(child=False))
    with pytest.raises(GraphError, match=r"job db waits for the value of size, .*: size is a child of workflow main;"):
        made(lambda: build(child=True))


def test_a_service_makes_no_jobs() -> None:
    who = msgspec.structs.replace(RUNNING, label="db [job 7]", form="service")
    with pytest.raises(JobError, match=r"a cannot be a child of db \[job 7\]: a service makes no jobs"):
        made(lambda: orch.context().add_child(named("a")), who)
    with pytest.raises(JobError, match="a service makes no jobs"):
        made(lambda: orch.context().add_service(Plain()), who)


def test_nor_a_follow_on_of_what_it_serves() -> None:
    def build() -> Any:
        named("before")
        first = named("first")
        last = orch.context().add_follow_on(named("last"))
        orch.context().add_service(Database(last, name="db"))
        return first

    with pytest.raises(
        GraphError, match=r"job db waits for the value of last, .*: last is a follow-on of workflow main"
    ):
        made(build)


def test_whoever_takes_credentials_should_run_while_the_service_does() -> None:
    def build(where: str) -> Any:
        a = named("a")
        up = a.add_service(Database(name="db"))
        other = a.add_service(Database(up, name="other"))
        child = a.add_child(named("child"))
        user = named("user", up["port"], other)
        if where == "below":
            child.add_follow_on(user)
        elif where == "service":
            child.add_service(Database(up))
            return a
        return user

    assert made(lambda: build("below")).warnings == []
    assert made(lambda: build("beside")).warnings == [
        f"job user takes what service {service} gave, which may have stopped by then: it runs for what is below job a "
        f"only. Add user to that as a child"
        for service in ("db", "other")
    ]
    assert len(made(lambda: [build("beside") for _ in range(10)]).warnings) == 9
    assert len(made(lambda: build("service")).warnings) == 1  # the user that is left over


def test_whatever_the_workflow_makes_runs_while_its_services_do() -> None:
    assert made(lambda: named("user", orch.context().add_service(Database()))).warnings == []
