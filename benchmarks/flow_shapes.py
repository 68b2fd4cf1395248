"""Workflows whose shape is what costs: jobs one after the other, and jobs that make jobs."""

from __future__ import annotations

from typing import Any

import orch


@orch.job
def link(number: int) -> int:
    """One more."""
    return number + 1


@orch.workflow
def chain(form: str = "fork", links: int = 1) -> Any:
    """Each link takes the value of the one before it."""
    job, number = link.options(isolation=form), 0
    for _ in range(links):
        number = job(number)
    return number


@orch.job
def node(form: str, depth: int) -> Any:
    """A leaf, or two nodes."""
    if depth == 0:
        return 1
    below = node.options(isolation=form)
    return [below(form, depth - 1) for _ in range(2)]


@orch.workflow
def tree(form: str = "fork", depth: int = 1) -> Any:
    """A binary tree, made from its root on."""
    return node.options(isolation=form)(form, depth)
