"""Children, follow-ons, capsules and classes: each body writes down when it begins and when it ends."""

from __future__ import annotations

from typing import Any

import orch


def write(said: str, line: str) -> None:
    """Add a line to a file that all jobs write to."""
    with open(said, "a", encoding="utf-8") as file:
        file.write(f"{line}\n")


@orch.job(cores=0.1)
def step(said: str, name: str, *values: Any) -> str:
    write(said, f"+{name}")
    shown = "".join(f" {value}" for value in values)
    write(said, f"-{name}")
    return f"{name}{shown}"


def named(said: str, name: str, *values: Any) -> orch.Job:
    """A step that is shown under its name."""
    return orch.as_job(step.options(name=name)(said, name, *values))


@orch.job(cores=0.1)
def branch(said: str, name: str, deep: int) -> str:
    """Adds two children that do the same, down to `deep`, and a follow-on."""
    write(said, f"+{name}")
    context = orch.context()
    for side in "xy":
        below = f"{name}{side}"
        context.add_child(branch(said, below, deep - 1) if deep else named(said, below))
    context.add_follow_on(named(said, f"{name}!"))
    write(said, f"-{name}")
    return name


@orch.workflow
def tree(said: str) -> Any:
    """One that makes children that make children, and has a follow-on; an outside follow-on comes after it."""
    a = orch.as_job(branch(said, "a", 1))
    last = a.add_follow_on(named(said, "last", a))
    last.add_follow_on(named(said, "very last"))
    return last


@orch.workflow
def predecessors(said: str) -> Any:
    """Everything that a job may come after, at once."""
    first, second, third, value = (named(said, name) for name in ("first", "second", "third", "value"))
    below = second.add_child(named(said, "below"))
    join = named(said, "join", value)
    first.add_child(join)
    second.add_follow_on(join)
    third.add_child(join)
    return {"join": join, "below": below}


@orch.job(cores=0.1)
def waits(pipe: str) -> str:
    with open(pipe, encoding="utf-8") as file:
        return file.read()


@orch.job(cores=0.1)
def tells(pipe: str, what: Any) -> None:
    with open(pipe, "w", encoding="utf-8") as file:
        file.write(what)


@orch.workflow
def consumer(said: str, pipe: str) -> Any:
    """The child ends only when a job that takes the parent's value has begun."""
    parent = named(said, "parent")
    child = parent.add_child(orch.as_job(waits(pipe)))
    return [tells(pipe, parent), child]


@orch.workflow
def capsule(said: str) -> Any:
    """What a job makes later on belongs to its capsule, and so does what was added to it."""
    inner = orch.as_job(branch(said, "a", 1))
    inner.add_follow_on(named(said, "inner last"))
    whole = inner.encapsulate()
    before = named(said, "before")
    before.add_child(whole)
    child = whole.add_child(named(said, "child", whole))
    outer = whole.encapsulate()
    return {"whole": whole, "outer": outer, "child": child, "after": outer.add_follow_on(named(said, "after"))}


class Base(orch.Job):
    """A job with an attribute that is a job, options of its own, and a child that it adds itself."""

    def __init__(self, said: str, words: Any, memory: str = "300 MiB") -> None:
        super().__init__(memory=memory, cores=0.1)
        self.said = said
        self.words = words

    def run(self) -> Any:
        write(self.said, f"+{type(self).__name__}")
        self.add_child(named(self.said, "child"))
        self.add_follow_on(named(self.said, "follow-on"))
        write(self.said, f"-{type(self).__name__}")
        return self.answer()

    def answer(self) -> Any:
        """What subclasses change."""
        return sorted(self.words)


class Sort(Base):
    def __init__(self, said: str, words: Any, reverse: bool = False) -> None:
        super().__init__(said, words, memory="400 MiB")
        self.reverse = reverse


class Backwards(Sort):
    async def run(self) -> Any:
        return [*sorted(self.words, reverse=self.reverse), orch.context().resources.memory]


@orch.workflow
def classes(said: str) -> Any:
    first = Sort(said, ["b", named(said, "a")])
    second = Backwards(said, first, reverse=True)
    second.add_child(named(said, "grown", second[0]))
    return {"first": first, "second": second, "part": first[0]}


@orch.job
def nested() -> Any:
    return {"path": [["a", "b", "c", "d"], {"x": (1, 2)}], "size": "400 MiB", "cores": 0.25}


@orch.job
def show(*values: Any) -> list[Any]:
    return list(values)


@orch.workflow
def parts() -> Any:
    found = orch.as_job(nested())
    one, same = found.value("path", 0, slice(1, 3)), found["path"][0][1:3]
    assert one == same
    return {"shown": show(one, found.value("path", 1, "x")), "one": one, "same": same, "whole": found.value()}


@orch.job
def resources() -> tuple[float, int | None, int | None]:
    mine = orch.context().resources
    return mine.cores, mine.memory, mine.disk


@orch.workflow
def promises() -> Any:
    """Requirements that are known at run time only."""
    found = orch.as_job(nested())
    shape = {"memory": found["size"], "cores": orch.promised(lambda cores: cores * 2, found["cores"])}
    disk = orch.promised(lambda sizes: sum(sizes) + 1, [orch.as_job(number(20)), orch.as_job(number(30))])
    return resources.options(**shape, disk=disk)()


@orch.job
def number(value: Any) -> Any:
    return value


@orch.workflow
def bad_promises() -> Any:
    """Named after the option, and what is wrong with it."""
    wombats, huge = number("10 wombats"), number(10**18)
    raises = orch.promised(lambda count: count // 0, number(1))
    wrong = {
        "memory text": {"memory": wombats},
        "cores text": {"cores": wombats},
        "memory huge": {"memory": huge},
        "cores huge": {"cores": huge},
        "disk raises": {"disk": raises},
    }
    return [resources.options(name=name, **options)() for name, options in wrong.items()]


# What is asked for too early ------------------------------------------------------------------------------------------


@orch.job
def asks(how: str) -> Any:
    inner = number.options(name="inner")(1)
    if how == "bool":
        return 1 if inner else 2
    if how == "int":
        return int(inner)
    return list(inner) if how == "iterate" else f"{inner}"


@orch.workflow
def early() -> Any:
    return [asks.options(name=f"asks {how}")(how) for how in ("bool", "int", "iterate", "format")]


@orch.workflow
def early_at_once() -> Any:
    return 1 if number.options(name="inner")(1) else 2


# Mistakes -------------------------------------------------------------------------------------------------------------


def cycle() -> Any:
    a, b, c = (named("", name) for name in "abc")
    a.add_child(b).add_child(c).add_child(a)
    return a


def cycle_of_follow_ons() -> Any:
    a, b = named("", "a"), named("", "b")
    a.add_follow_on(b)
    b.add_child(a)
    return a


def cycle_below() -> Any:
    """A child of a's child is what a's follow-on gives."""
    a, b = named("", "a"), named("", "b")
    last = a.add_follow_on(named("", "last"))
    a.add_child(b).add_child(named("", "late", last))
    return a


def unreachable() -> Any:
    lost = named("", "lost")
    lost.add_child(named("", "with it"))
    return named("", "found")


def own_future() -> Any:
    a = named("", "a")
    f = a.add_follow_on(named("", "f"))
    a.add_child(named("", "c", f))
    return a


def checkpoint() -> Any:
    point = orch.as_job(step.options(name="point", checkpoint=True)("", "point"))
    point.add_child(named("", "b"))
    return point


def twice() -> Any:
    a, b = named("", "a"), named("", "b")
    a.add_child(b)
    a.add_child(b)
    return a


def own_child() -> Any:
    a = named("", "a")
    a.add_child(a)
    return a


MISTAKES = {
    made.__name__: made
    for made in (cycle, cycle_of_follow_ons, cycle_below, unreachable, own_future, checkpoint, twice, own_child)
}


@orch.workflow
def mistaken(mistake: str) -> Any:
    return MISTAKES[mistake]()


@orch.job
def blunder(mistake: str) -> Any:
    return MISTAKES[mistake]()


@orch.workflow
def mistaken_inside() -> Any:
    return [blunder.options(name=mistake)(mistake) for mistake in MISTAKES]


# Many -----------------------------------------------------------------------------------------------------------------


@orch.job(isolation="pool", cores=0.5)
def leaf(index: int) -> int:
    return index


@orch.job
def count(values: list[Any]) -> int:
    return len(values)


@orch.job
def fan_out(jobs: int) -> Any:
    context = orch.context()
    children = [context.add_child(orch.as_job(leaf(index))) for index in range(jobs)]
    return context.add_follow_on(count(children))


@orch.workflow
def wide(jobs: int) -> Any:
    return fan_out(jobs)


@orch.workflow
def deep(jobs: int) -> Any:
    """Each a child of the one before."""
    first = last = orch.as_job(leaf(0))
    for index in range(1, jobs):
        last = last.add_child(orch.as_job(leaf(index)))
    first.add_follow_on(leaf(jobs))
    return last


@orch.job(isolation="pool", cores=0.5)
def down(left: int) -> Any:
    """Each made by the one before."""
    if left:
        orch.context().add_child(down(left - 1))
    return left


@orch.workflow
def descent(jobs: int) -> Any:
    first = orch.as_job(down(jobs))
    return first.encapsulate()
