"""The values that an attempt takes: unpickled once each, with the values that stand inside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orch.attempt import Value
from orch.authoring.pickling import Gone, loads
from orch.bus.events import Blob, JobId
from orch.errors import JobError, OrchError


class Values:
    """Values by job. `consumer` is named in messages; `lenient` as for `orch.authoring.pickling.Unpickler`."""

    def __init__(
        self,
        values: Mapping[JobId, Value],
        fetch: Callable[[Blob], bytes],
        consumer: str,
        *,
        lenient: bool = False,
    ) -> None:
        self._lenient = lenient
        self._values = values
        self._fetch = fetch
        self._consumer = consumer
        self._loaded: dict[JobId, Any] = {}

    def load_body(self, body: Blob, needs: Sequence[JobId]) -> Any:
        """A body, or any other pickle, whose reference number k is the job `needs[k]`. Raises `JobError`."""
        self.load(needs)
        data = self._fetch(body)
        try:
            return self._loads(data, needs)
        except OrchError:
            raise
        except Gone as error:
            from orch.work.traces import shown_name  # only for a mistake

            raise JobError(
                f"{shown_name(error.file)} has no job {error.what} any more (it was renamed or removed, or made below "
                f'`if __name__ == "__main__":`): {self._consumer} cannot run with this code'
            ) from error
        except Exception as error:  # unpickling runs user code
            raise JobError(
                f"{self._consumer} cannot be read with this code: {type(error).__name__}: {error}"
            ) from error

    def load(self, wanted: Sequence[JobId]) -> None:
        """Load values, those inside first. Iterative: values can be nested as deep as the graph."""
        waiting = list(wanted)
        while waiting:
            job = waiting[-1]
            if job in self._loaded:
                waiting.pop()
                continue
            value = self._value(job)
            inside = [ref for ref in value.refs if ref not in self._loaded]
            if inside:
                waiting.extend(inside)
                continue
            waiting.pop()
            self._loaded[job] = self._read(value, job)

    def _value(self, job: JobId) -> Value:
        try:
            return self._values[job]
        except KeyError:
            raise JobError(f"{self._consumer} needs the value of job {job}, which was not handed over") from None

    def _read(self, value: Value, job: JobId) -> Any:
        data = self._fetch(value.blob)
        try:
            return self._loads(data, value.refs)
        except OrchError:
            raise
        except Exception as error:  # unpickling runs user code
            label = value.label or f"job {job}"
            raise JobError(
                f"{self._consumer} cannot read the value of {label}: {type(error).__name__}: {error}"
            ) from error

    def _loads(self, data: bytes, refs: Sequence[JobId]) -> Any:
        return loads(data, lambda number, path: self.part(refs[number], path), lenient=self._lenient)

    def part(self, job: JobId, path: tuple[Any, ...]) -> Any:
        """A part of a loaded value. Raises `JobError` that names both jobs and the key."""
        found = self._loaded[job]
        for position, key in enumerate(path):
            try:
                found = part(found, key)
            except Exception as error:  # a user's __getitem__ may raise anything
                label = self._values[job].label or f"job {job}"
                wanted = "".join(f"[{key!r}]" for key in path[: position + 1])
                raise JobError(
                    f"{self._consumer} needs {wanted} of the value of {label}, which does not have it: "
                    f"{_miss(found, key, error)}"
                ) from error
        return found


def part(value: Any, key: Any) -> Any:
    """The item `key` of a value, or the attribute of that name where the value has no items."""
    if hasattr(type(value), "__getitem__"):
        return value[key]
    if isinstance(key, str):
        return getattr(value, key)
    raise TypeError(f"a {type(value).__name__} has no items")


def _miss(value: Any, key: Any, error: Exception) -> str:
    if isinstance(error, KeyError):
        keys = ", ".join(map(repr, list(value)[:8])) if isinstance(value, dict) else ""
        return f"no key {key!r} in a {type(value).__name__}{f' with the keys {keys}' if keys else ''}"
    if isinstance(error, IndexError):
        return f"a {type(value).__name__} of length {len(value)}"
    return f"{type(error).__name__}: {error}"
