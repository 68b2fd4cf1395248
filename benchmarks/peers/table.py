"""The table, in Markdown, and what there is to be said about the session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peers.figures import Cell, Figure, Twice, cells
from peers.roster import Peer

COLUMNS = {
    "jobs": "ms a job",
    "chain": "chain, ms a link",
    "tree": "tree of 511, s",
    "one": "one job from the shell, s",
    "kill": "ran twice after kill -9",
}


def table(peers: Sequence[Peer], session: Mapping[str, Any]) -> str:
    """All of it."""
    shown = cells(session["measured"])
    head = ["engine", "version", "runs a job as", *COLUMNS.values(), "has written when a job is done"]
    lines = [head, ["---"] * len(head)]
    problems: list[str] = []
    for peer in peers:
        line = [f"**{peer.title}**" if peer.package is None else peer.title]
        line += [session["versions"].get(peer.title, ""), peer.how]
        for workload in COLUMNS:
            found = shown.get((peer.title, workload))
            if isinstance(found, str):
                problems.append(f"- {peer.title}, {workload}: {found}")
            line.append(text(found))
        lines.append([*line, peer.keeps])
    problems += [f"- {title} is missing: {why}" for title, why in session["missing"].items()]
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join([about(session), rows, *(["What failed:\n\n" + "\n".join(problems)] if problems else [])])


def text(found: Cell | None) -> str:
    """One cell."""
    match found:
        case None:
            return ""
        case str():
            return "failed"
        case Twice():
            return f"{found.again} of {found.before}"
        case Figure():
            return f"{digits(found.median)} ({digits(found.least)}-{digits(found.most)})"


def digits(value: float) -> str:
    """Two digits that matter, or all before the point."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def about(session: Mapping[str, Any]) -> str:
    """Where and when."""
    machine = session["machine"]
    load = session["load"]
    rounds = len({one["round"] for one in session["measured"]})
    busy = max(load) > machine["cores"] + 1
    return (
        f"Measured {session['date']} on {machine['processor']}, {machine['cores']} cores, {machine['memory']}, Linux"
        f" {machine['kernel']}, Python {machine['python']}; {rounds} rounds; load before each round and"
        f" at the end: {', '.join(f'{each:.1f}' for each in load)}."
        + (" **The machine was shared with other work: only ratios within a column mean something.**" if busy else "")
    )
