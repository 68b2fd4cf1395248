"""The settings that adapters of their own have, as tables: what each is called, what it may be, what it means.

A setting has one name everywhere, and it begins with the adapter's: `slurm-partition` in a file,
`$ORCH_SLURM_PARTITION`, `--slurm-partition`. Those that all batch systems understand begin with `batch-`. What a user
gave is kept as text in the run's settings (`RunInfo.options`), and a dialect reads it from there. Light: the command
reads this at each start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Option(NamedTuple):
    """`check` raises `ValueError` with what is accepted. `default`: for people. `variables`: further ones that say it.

    `metavar` empty: on the command line it takes no value.
    """

    name: str
    help: str
    metavar: str = "TEXT"
    default: str = ""
    check: Callable[[str], object] | None = None
    variables: tuple[str, ...] = ()

    def problem(self, text: str) -> str:
        """What is wrong with this value; empty: nothing."""
        if self.check is not None:
            try:
                self.check(text)
            except ValueError as error:
                return str(error)
        return ""
