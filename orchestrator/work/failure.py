"""How a body of ours says that its program failed."""

from __future__ import annotations

from orch.errors import JobError


class ProgramFailed(JobError):
    """A command ended badly. The message says how; there is no traceback worth showing."""

    def __init__(self, message: str, code: int | None = None, signal: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.signal = signal
