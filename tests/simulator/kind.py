"""What kind of story is to be told, where chance alone would seldom come to it."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Kind:
    """Left to chance, each of these, unless it is said.

    `theme`  of what goes wrong (`simulator.trouble.THEMES`)
    `rich`   do jobs have children, follow-ons, services, checkpoints and all that?
    `here`   do attempts run on this host, with an agent, or in a batch system elsewhere?
    """

    theme: str = ""
    rich: bool | None = None
    here: bool | None = None


ANY = Kind()
