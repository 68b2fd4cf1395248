"""`orch status --graph`: the graph of a run for graphviz; of a large one, by kind."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator

from orch.errors import UserError
from orch.inspection import counts, parents_of
from orch.state.law import JobState
from orch.state.model import WORKFLOW, Job, State

MOST_JOBS = 2000
"""More are drawn by kind: graphviz takes minutes for them, and nobody could read it."""

_COLOURS = {
    JobState.WAITING: "white",
    JobState.READY: "lightyellow",
    JobState.SUBMITTING: "khaki",
    JobState.QUEUED: "khaki",
    JobState.RUNNING: "lightskyblue",
    JobState.SUCCEEDED: "honeydew",
    JobState.DONE: "palegreen",
    JobState.FAILED: "salmon",
    JobState.CANCELLED: "plum",
    JobState.SKIPPED: "lightgrey",
}
_SALIENT = (JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED, JobState.RUNNING, JobState.QUEUED,
            JobState.SUBMITTING, JobState.READY, JobState.WAITING, JobState.SUCCEEDED, JobState.DONE)  # fmt: skip
"""Of the jobs of a kind, the first of these states that one of them is in gives the colour."""

_EDGES = {
    "value": "",
    "child": "style=dashed",
    "follow-on": "style=dotted arrowhead=empty penwidth=2",
    "service": "arrowhead=diamond color=steelblue",
}
_LEGEND = "value: solid · child: dashed · follow-on: dotted, hollow · service: blue, diamond"

LONGEST = 48
"""Letters of a name in the picture: the arguments of a long command would be wider than all other jobs together."""


def dot(state: State, *, by_kind: bool) -> str:
    """The graph in graphviz's language: a node for each job, or for each kind."""
    rows = [row for row in state.jobs.values() if counts(row)]
    name = state.created.run if state.created else ""
    about = f"run {name}, event {state.seq}\n{_LEGEND}"
    body = _by_kind(rows) if by_kind else _by_job(rows)
    head = [
        f"digraph {_quoted(name)} {{",
        "  rankdir=LR;",
        f"  label={_quoted(about)} fontname=sans fontsize=9;",
        '  node [shape=box style="filled,rounded" fontname=sans fontsize=10];',
        "  edge [fontname=sans fontsize=9];",
    ]
    return "\n".join([*head, *(f"  {line}" for line in body), "}"])


def svg(text: str) -> str:
    """The picture of a graph. Raises `UserError` where graphviz is missing, or fails."""
    program = shutil.which("dot")
    if program is None:
        raise UserError(
            "--graph svg: needs graphviz, and there is no program `dot` in PATH: install graphviz, or take --graph dot "
            "to where it is"
        )
    done = subprocess.run([program, "-Tsvg"], input=text.encode(), capture_output=True, check=False)
    if done.returncode:
        raise UserError(f"--graph svg: {program} failed: {done.stderr.decode(errors='replace').strip():.500}")
    return done.stdout.decode()


def edges(row: Job) -> Iterator[tuple[int, str]]:
    """The jobs that it comes after, and how. What it has from the workflow function is not drawn."""
    yield from ((need, "value") for need in row.needs)
    parents = row.parents if row.serves >= 0 else [job for job in parents_of(row) if job not in row.needs]
    yield from ((parent, "service" if row.serves >= 0 else "child") for parent in parents if parent != WORKFLOW)
    yield from ((followed, "follow-on") for followed in row.follows if followed != WORKFLOW)
    if row.serves > WORKFLOW:
        yield row.serves, "service"


def _by_job(rows: list[Job]) -> Iterator[str]:
    for row in rows:
        label = f"{_short(row.name or row.kind)}\n{row.id} {row.state}"
        yield f"{row.id} [label={_quoted(label)} fillcolor={_COLOURS[row.state]}{_shape(row)}];"
    there = {row.id for row in rows}
    for row in rows:
        for other, how in edges(row):
            if other in there:
                yield f"{other} -> {row.id}{_attributes(_EDGES[how])};"


def _by_kind(rows: list[Job]) -> Iterator[str]:
    kinds: dict[str, list[Job]] = defaultdict(list)
    for row in rows:
        kinds[row.kind].append(row)
    numbers = {kind: number for number, kind in enumerate(kinds)}
    for kind, members in kinds.items():
        states = Counter(row.state for row in members)
        told = ", ".join(f"{states[state]} {state}" for state in _COLOURS if states[state])
        label = f"{_short(kind)}\n" + (f"{len(members)}: {told}" if len(states) > 1 else told)
        colour = _COLOURS[next(state for state in _SALIENT if states[state])]
        yield f"k{numbers[kind]} [label={_quoted(label)} fillcolor={colour}{_shape(members[0])}];"
    kind_of = {row.id: row.kind for row in rows}
    found = Counter((kind_of[other], row.kind, how) for row in rows for other, how in edges(row) if other in kind_of)
    for (first, second, how), count in found.items():
        label = f"label={count}" if count > 1 else ""
        yield f"k{numbers[first]} -> k{numbers[second]}{_attributes(_EDGES[how], label)};"


def _shape(row: Job) -> str:
    """Services, programs and groups look different; a checkpoint has two lines around it."""
    shape = {
        "service": " shape=cylinder style=filled",
        "command": ' shape=cds margin="0.2,0.1"',
        "group": " shape=folder",
    }
    return shape.get(row.form, "") + (" peripheries=2" if row.checkpoint else "")


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def _attributes(*parts: str) -> str:
    text = " ".join(filter(None, parts))
    return f" [{text}]" if text else ""


def _quoted(text: str) -> str:
    plain = "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
