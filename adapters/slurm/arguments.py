"""What a user may say to sbatch beside what orch says: `slurm-args`, `$ORCH_SLURM_ARGS`, and `backend={…}` of a job.

Source: sbatch(1), OPTIONS and INPUT ENVIRONMENT VARIABLES, of Slurm 20.11 to 24.11.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TAKEN = {
    "cores": _words(
        "cpus-per-task cpus-per-gpu ntasks ntasks-per-core ntasks-per-gpu ntasks-per-node ntasks-per-socket "
        "nodes mincpus tres-per-task"
    ),
    "memory": _words("mem mem-per-cpu mem-per-gpu"),
}
"""What a job says about itself, and which of sbatch's options would say the same."""

_OURS = _words(
    "array batch chdir error export export-file get-user-env help input job-name no-requeue open-mode output parsable "
    "requeue test-only usage version wait wrap clusters uid gid"
)
"""What orch has to know of, or to rely on."""

_FLAGS = _words(
    "contiguous exclusive get-user-env help hold ignore-pbs kill-on-invalid-dep nice no-kill no-requeue overcommit "
    "oversubscribe parsable power propagate quiet reboot requeue spread-job stepmgr test-only usage use-min-nodes "
    "verbose version wait consolidate-segments"
)
"""Options without a value, or with one that is optional: it then stands behind "="."""

_VALUES = _words(
    "account acctg-freq array batch bb bbf begin chdir cluster-constraint clusters comment constraint container "
    "container-id core-spec cores-per-socket cpu-freq cpus-per-gpu cpus-per-task deadline delay-boot dependency "
    "distribution error exclude export export-file extra extra-node-info gid gpu-bind gpu-freq gpus gpus-per-node "
    "gpus-per-socket gpus-per-task gres gres-flags hint input job-name licenses mail-type mail-user mcs-label mem "
    "mem-bind mem-per-cpu mem-per-gpu mincpus network nodefile nodelist nodes ntasks ntasks-per-core ntasks-per-gpu "
    "ntasks-per-node ntasks-per-socket oom-kill-step open-mode output partition prefer priority profile qos "
    "reservation resv-ports segment signal sockets-per-node switches thread-spec threads-per-core time time-min tmp "
    "tres-bind tres-per-task uid wait-all-nodes wckey wrap"
)

_SHORT = {
    "A": "account", "a": "array", "B": "extra-node-info", "b": "begin", "C": "constraint", "c": "cpus-per-task",
    "D": "chdir", "d": "dependency", "e": "error", "F": "nodefile", "G": "gpus", "H": "hold", "h": "help",
    "i": "input", "J": "job-name", "k": "no-kill", "L": "licenses", "M": "clusters", "m": "distribution",
    "N": "nodes", "n": "ntasks", "O": "overcommit", "o": "output", "p": "partition", "Q": "quiet", "q": "qos",
    "S": "core-spec", "s": "oversubscribe", "t": "time", "u": "usage", "V": "version", "v": "verbose", "W": "wait",
    "w": "nodelist", "x": "exclude",
}  # fmt: skip

_VARIABLES = _words(
    "ARRAY_INX BATCH CPUS_PER_GPU DEBUG ERROR EXPORT GET_USER_ENV INPUT JOB_NAME MEM_PER_CPU MEM_PER_GPU MEM_PER_NODE "
    "NO_REQUEUE OPEN_MODE OUTPUT REQUEUE WAIT WAIT_ALL_NODES"
)
"""Those of sbatch's variables that would say what orch says; the others are the user's own choice, and stay."""

_KEPT = {"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT", "SLURM_HINT", "SLURM_UMASK"}


def variables(environment: Mapping[str, str]) -> dict[str, str | None]:
    """What is to be taken out of the environment of Slurm's commands.

    `SLURM_…` tells of the job that the leader itself may run in; `SQUEUE_FORMAT` and its like change answers.
    """
    unwanted = {f"SBATCH_{name}" for name in _VARIABLES}
    return {
        name: None
        for name in sorted(environment)
        if name in unwanted
        or (name.startswith("SLURM_") and name not in _KEPT)
        or name.startswith(("SQUEUE_", "SACCT_", "SINFO_", "SCANCEL_", "SCONTROL_"))
    }


def more(text: str) -> list[str]:
    """The arguments in `slurm-args`. Raises `ValueError` that names what orch sets itself, and what is none of them."""
    words = shlex.split(text)
    at = 0
    while at < len(words):
        at += _option(words, at)
    return words


def _option(words: Sequence[str], at: int) -> int:
    """How many words the option at this place takes."""
    word = words[at]
    if word.startswith("--") and word != "--":
        given, equals, _ = word[2:].partition("=")
        name = _full(given)
        alone = bool(equals) or name in _FLAGS
    elif word.startswith("-") and len(word) > 1 and word[1] in _SHORT:
        name = _SHORT[word[1]]
        alone = len(word) > 2 or name in _FLAGS
        if name in _FLAGS and len(word) > 2:
            raise ValueError(f"{word!r} joins options; write each of them on its own")
    else:
        raise ValueError(f"{word!r} is no option of sbatch, and would be taken for the script")
    _allowed(name, repr(word))
    if not alone and at + 1 == len(words) and name in _VALUES:
        raise ValueError(f"{word!r} has no value")
    return 1 if alone else 2


def _full(given: str) -> str:
    """The whole name: sbatch takes any beginning of one that is like no other's (getopt_long(3))."""
    known = _FLAGS | _VALUES
    if given in known:
        return given
    like = sorted(name for name in known if name.startswith(given))
    taken = [name for name in like if name in _OURS or _about(name)]
    return taken[0] if taken else like[0] if len(like) == 1 else given


def _about(name: str) -> str:
    return next((about for about, names in _TAKEN.items() if name in names), "")


def _allowed(name: str, what: str) -> None:
    if about := _about(name):
        raise ValueError(f"{what}: what a job needs in {about} is said by the job itself ({about}=…), not here")
    if name in _OURS:
        raise ValueError(f"{what}: orch sets --{name} itself")


def names(words: Sequence[str]) -> set[str]:
    """Which options are given in arguments that `more` has checked."""
    given, at = set(), 0
    while at < len(words):
        word = words[at]
        given.add(_full(word[2:].partition("=")[0]) if word.startswith("--") else _SHORT[word[1]])
        at += _option(words, at)
    return given


BACKEND = frozenset(_FLAGS | _VALUES) - _OURS - frozenset[str]().union(*_TAKEN.values())
"""What a job may pass through."""


def passed(backend: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """`backend={…}` of a job as arguments, and the keys in it that are no option of sbatch, as far as is known here.

    A value that is empty or "true" stands for an option without one. Raises `ValueError` for what orch sets itself.
    """
    arguments, unknown = [], []
    for name, value in backend:
        _allowed(name, f"backend {name!r}")
        if name not in BACKEND:
            unknown.append(name)
        elif name in _FLAGS and value in {"", "true"}:
            arguments.append(f"--{name}")
        else:
            arguments.append(f"--{name}={value}")
    return arguments, unknown
