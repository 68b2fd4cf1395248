"""What a user writes: decorators, options, jobs that stand for values."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

import orch
from orch.authoring.nodes import Job
from orch.authoring.scope import Scope
from orch.bus.events import Resources
from orch.errors import CallError, SizeError, UserError, WorkflowError


@orch.job
def add(x: int, y: int = 1, *, negative: bool = False) -> int:
    """Add."""
    return -(x + y) if negative else x + y


@orch.job(cores=2, memory="256 MiB", disk="1 GiB", retries=2, walltime="1h", isolation="pool")
def heavy(x: int) -> int:
    return x


def call_of(job: Any) -> Any:
    assert isinstance(job, Job)
    return job._call


def test_a_call_makes_a_job_and_runs_nothing() -> None:
    job: Any = add(1, y=2)
    assert repr(job) == "<job add(1, y=2)>"
    assert (job.kind, job.name) == ("add", "add(1, y=2)")


def test_the_function_itself_stays_at_hand() -> None:
    assert add.__wrapped__(1, 2) == 3
    assert (add.__qualname__, add.__doc__) == ("add", "Add.")


def test_options_of_the_decorator() -> None:
    call = call_of(heavy(1))
    assert (call.options.resources.cores, call.options.resources.memory) == (2.0, 256 * 2**20)
    assert (call.options.resources.disk, call.options.resources.walltime) == (2**30, 3600.0)
    assert (call.options.retries, call.form) == (2, "pool")


def test_options_default_to_the_run_s() -> None:
    call = call_of(add(1))
    assert (call.options.retries, call.options.resources, call.form) == (-1, Resources(cores=0.0), "fork")


def test_options_of_one_call_change_nothing_else() -> None:
    other = call_of(heavy.options(memory="1 GiB", retries=0, name="big  one")(1))
    assert (other.options.resources.memory, other.options.resources.cores) == (2**30, 2.0)
    assert (other.options.retries, other.label, other.kind) == (0, "big one", "heavy")
    assert call_of(heavy(1)).options.retries == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cores": -1}, "job add: cores=-1: cores must be a number above 0"),
        ({"cores": 0}, "cores must be a number above 0"),
        ({"cores": float("nan")}, "cores must be"),
        ({"cores": True}, "cores must be"),
        ({"memory": "much"}, "job add: memory='much': 'much' is not a size"),
        ({"memory": -5}, "job add: memory=-5"),
        ({"walltime": "soon"}, "is not a duration"),
        ({"retries": -1}, "retries must be a whole number"),
        ({"retries": 1.5}, "retries must be a whole number"),
        ({"name": " "}, "must be a text that is not empty"),
        ({"isolation": "none"}, 'isolation must be "fork"'),
        ({"memroy": "1G"}, "job add: unknown option 'memroy'; did you mean 'memory'?"),
        ({"colour": 1}, "unknown option 'colour'; there are cores, memory"),
    ],
)
def test_bad_options_name_the_job_function(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as raised:
        add.options(**given)
    assert message in str(raised.value)
    with pytest.raises(UserError, match="job lambda"):
        orch.job(**given)(lambda: None)


def test_a_bad_size_is_a_size_error_underneath() -> None:
    with pytest.raises(UserError) as raised:
        add.options(memory="2 XB")
    assert isinstance(raised.value.__context__, SizeError)


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "missing a required argument: 'x'"),
        ((1, 2, 3), {}, "too many positional arguments"),
        ((1,), {"z": 3}, "unexpected keyword argument 'z'"),
        ((1,), {"x": 3}, "multiple values for argument 'x'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_at_the_call(
    args: tuple[Any, ...], kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(CallError, match=message) as raised:
        add(*args, **kwargs)
    assert isinstance(raised.value, TypeError)
    assert isinstance(raised.value, UserError)
    assert "its parameters are (x: 'int'" in str(raised.value)


def test_every_kind_of_parameter() -> None:
    @orch.job
    def wide(a: int, /, b: int = 2, *rest: int, c: int, **more: int) -> None: ...

    assert call_of(wide(1, c=3)).args == (1,)
    assert call_of(wide(1, 2, 3, 4, c=3, d=4)).kwargs == {"c": 3, "d": 4}
    with pytest.raises(CallError, match=r"missing a required .*argument: 'c'"):
        wide(1)  # type: ignore[call-arg]


def test_async_functions_are_jobs_too() -> None:
    @orch.job
    async def later(x: int) -> int:
        return x

    assert repr(later(1)) == "<job later(1)>"


def test_generators_classes_and_methods_are_refused() -> None:
    with pytest.raises(UserError, match="a generator cannot be stored"):

        @orch.job
        def numbers() -> Any:
            yield 1

    with pytest.raises(UserError, match="is for functions"):
        orch.job(dict)
    with pytest.raises(UserError, match="which is one already"):
        orch.job(add)

    class Thing:
        @orch.job
        def work(self) -> None: ...

        @staticmethod
        @orch.job
        def fine(x: int) -> int:
            return x

    with pytest.raises(UserError, match="is a method"):
        Thing().work()  # type: ignore[call-arg]
    assert call_of(Thing.fine(1)).kind == ["test_generators_classes_and_methods_are_refused.", "Thing.fine"][1]


def test_parts_of_a_job() -> None:
    job: Any = add(1)
    part = job["a"][0]
    assert repr(part) == "<job add(1)['a'][0]>"
    assert part == job["a"][0]
    assert part != job["a"][1]
    assert len({job, job["a"], job["a"]}) == 2


@pytest.mark.parametrize(
    "use",
    [
        bool,
        len,
        int,
        float,
        lambda job: job + 1,
        lambda job: 1 - job,
        lambda job: job < 3,
        lambda job: job == 3,
        lambda job: 3 in job,
        lambda job: f"{job}",
        lambda job: job.__setitem__("a", 1),
        pickle.dumps,
    ],
)
def test_a_job_has_no_value_yet(use: Any) -> None:
    with pytest.raises(WorkflowError, match=r"<job add\(1\)> cannot be .*: it has no value yet"):
        use(add(1))


@pytest.mark.parametrize("use", [iter, list, lambda job: [*job], dict])
def test_a_job_cannot_be_iterated(use: Any) -> None:
    with pytest.raises(TypeError):
        use(add(1))


def test_copies_of_a_job_are_the_job() -> None:
    job = add(1)
    assert copy.deepcopy([job])[0] is job
    assert copy.copy(job) is job


def test_display_names_are_short_and_plain() -> None:
    wide: Any = orch.job(lambda *args: args)
    assert call_of(wide("x" * 100, [1])).name == "lambda(…, …)"
    assert call_of(wide(10**100, None)).name == "lambda(…, None)"
    name = call_of(wide(*range(100))).name
    assert len(name) == 60
    assert name.endswith("…)")


def test_a_job_remembers_the_user_s_line() -> None:
    with Scope() as scope:
        add(1)
        orch.command(["true"])
    assert {file for call in scope.calls for file in [call.where[0]]} == {__file__}
    assert scope.calls[1].where[1] == scope.calls[0].where[1] + 1


def test_jobs_can_be_made_outside_of_any_scope() -> None:
    job: Any = add(1)
    assert job.kind == "add"


def test_a_workflow_is_called_like_a_function() -> None:
    @orch.workflow
    def main(n: int = 1) -> int:
        """Do it."""
        return n + 1

    assert main(4) == 5
    assert (main.name, main.__doc__, main.include) == ("main", "Do it.", ())


def test_workflow_options() -> None:
    @orch.workflow(include=["data/*.csv"])
    def main() -> None: ...

    assert main.include == ("data/*.csv",)
    with pytest.raises(UserError, match="must be a list of patterns"):
        orch.workflow(include="data/*.csv")
    with pytest.raises(UserError, match="plain functions"):
        orch.workflow(add)


def test_everything_exported_is_there() -> None:
    for name in orch.__all__:
        if name not in ("Orchestrator", "Run", "run"):
            assert getattr(orch, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = orch.nothing
    assert set(orch.__all__) <= set(dir(orch))
