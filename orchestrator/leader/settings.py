"""The settings of a run: kept in its log, so that a restart needs none of them again."""

from __future__ import annotations

from typing import Any

import msgspec


class Settings(msgspec.Struct, frozen=True, omit_defaults=True):
    """`cores`, `memory` (bytes): what the run may use at once, 0 for all there is. `max_log`: bytes kept of each
    of an attempt's output streams. `set_env` are names only: values are never stored.
    """

    adapter: str = "local"
    cores: float = 0.0
    memory: int = 0
    retries: int = 0
    work_dir: str = ""
    durability: str = "always"
    max_log: int = 16 * 1024 * 1024
    set_env: list[str] = []
    deploy: bool = True

    def override(self, **changes: Any) -> Settings:
        """These settings, with those of `changes` that are not None on top."""
        return msgspec.structs.replace(self, **{key: value for key, value in changes.items() if value is not None})


def to_log(settings: Settings) -> dict[str, Any]:
    """As it stands in the `created` event."""
    return dict(msgspec.to_builtins(settings))


def from_log(data: dict[str, Any]) -> Settings:
    """The reverse of `to_log`."""
    return msgspec.convert(data, Settings)
