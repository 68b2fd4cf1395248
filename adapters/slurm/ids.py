"""What Slurm calls jobs and tasks: "123", "123_4", and many of an array together: "123_[1-3,7]".

Source: https://slurm.schedmd.com/job_array.html. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_SUBMITTED = re.compile(r"(\d+)(?:;\S+)?")
_TASKS = re.compile(r"(?P<job>\d+)(?:_(?P<index>\d+)|_\[(?P<many>[\d,:-]+)(?:%\d+)?\])?")


def submitted(out: str) -> str:
    """What `sbatch --parsable` calls the submission; empty: that is not in its answer. A site may print lines more."""
    found = [match[1] for line in out.splitlines() if (match := _SUBMITTED.fullmatch(line.strip()))]
    return found[-1] if found else ""


def expand(name: str) -> list[str]:
    """The tasks that a name in an answer stands for; none: it is not of that form."""
    match = _TASKS.fullmatch(name)
    if match is None:
        return []
    if match["many"] is None:
        return [name]
    return [f"{match['job']}_{index}" for part in match["many"].split(",") for index in _range(part)]


def _range(part: str) -> Iterable[int]:
    bounds, _, step = part.partition(":")
    first, _, last = bounds.partition("-")
    return range(int(first), int(last or first) + 1, int(step or 1))


def job(task: str) -> str:
    """The submission that a task belongs to."""
    return task.partition("_")[0]


def together(tasks: Iterable[str]) -> list[str]:
    """Names for the same tasks that are few: "7_1", "7_2", "7_5" is "7_[1-2,5]"."""
    alone, arrays = [], dict[str, list[int]]()
    for task in tasks:
        name, _, index = task.partition("_")
        if index:
            arrays.setdefault(name, []).append(int(index))
        else:
            alone.append(task)
    return alone + [_name(name, sorted(set(indices))) for name, indices in arrays.items()]


def _name(name: str, indices: Sequence[int]) -> str:
    if len(indices) == 1:
        return f"{name}_{indices[0]}"
    runs: list[list[int]] = []
    for index in indices:
        if runs and runs[-1][1] == index - 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return f"{name}_[{','.join(str(a) if a == b else f'{a}-{b}' for a, b in runs)}]"
