"""What must hold, whatever happens: watched from outside, after every step, by somebody who is never killed.

The oracle knows an event as soon as a leader has acted on it, or a later leader builds upon it. What is known stays.
"""

from __future__ import annotations

import functools
import hashlib
import operator
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

from orch.attempt import Attempt, Outcome, Reason
from orch.bus import events as ev
from orch.state.decide import parse_key
from orch.state.fold import apply
from orch.state.law import LIVE, JobState
from orch.state.model import State
from orch.testing.states import difference, problems, snapshot
from simulator.disk import Disk
from simulator.names import RUN
from simulator.relations import Relations

ENDS = (ev.Succeeded, ev.Surveyed, ev.Retrying, ev.Failed, ev.Cancelled)

_EVENTS: msgspec.json.Decoder[ev.Event] = msgspec.json.Decoder(functools.reduce(operator.or_, ev.KNOWN))


class Violation(AssertionError):
    """Something that must never happen has happened."""


class Oracle:
    """One run's. `root`: of the store on `disk`. `most_live`: attempts that may be in the batch system at once."""

    def __init__(self, disk: Disk, root: str, most_live: int) -> None:
        self.violations: list[str] = []
        self.state = State()
        self.known: list[ev.Event] = []
        self.running: dict[str, Attempt] = {}
        self.committed: Counter[str] = Counter()
        self._disk = disk
        self._root = root
        self._most_live = most_live
        self._names: dict[int, str] = {}
        self._by: dict[int, int] = {}
        self._forms: dict[int, str] = {}
        self._bodies: dict[int, str] = {}  # names of the jobs whose bodies are committed, as they are counted
        self._latest: dict[int, int] = {}
        self._ended: set[tuple[int, int]] = set()
        self._intended: set[str] = set()
        self._cancelling = False
        self._lenient = False
        self._again = False
        self._left: dict[str, Outcome] = {}
        self._written_off: set[str] = set()
        self.relations = Relations(self._wrong_unless_lenient)

    def forget(self, length: int) -> None:
        """A power cut has taken back what was not synced, as it was allowed to: only the first events are left.

        From here on attempts may bear numbers that others had, and their bodies may run beside those.
        """
        known, left = self.known[:length], self._left
        self.__init__(self._disk, self._root, self._most_live)  # type: ignore[misc]
        self._left, self._lenient = left, True
        self._again = True  # files were there when these events came, and may have been deleted since
        self.adopt(known)
        self._again = False

    # What leaders say and do.

    def adopt(self, events: Sequence[ev.Event]) -> None:
        """A leader builds upon these: the whole log as it is on the disk, from its beginning."""
        if len(events) < len(self.known):
            self._wrong(f"the log has {len(events)} events, and {len(self.known)} were durable")
        for event in events:
            self._know(event)

    def published(self, events: Sequence[ev.Event], state: State) -> None:
        """A leader has made these durable, and acts on them; its state is that after the last one."""
        for event in events:
            self._know(event)
        if state.seq == self.state.seq:
            found = difference(snapshot(state), snapshot(self.state))
            if found:
                self._wrong(f"the live state after event {state.seq} is not that of a replay: {found[:3]}")
            for problem in problems(state):
                self._wrong(f"after event {state.seq}: {problem}")

    def submitted(self, attempt: Attempt) -> None:
        """A leader hands an attempt over."""
        if attempt.key not in self._intended:
            self._wrong(f"{attempt.key} is handed over, and no durable event says that it is intended")
        live = sum(self.state.lanes.values())
        if live > self._most_live:
            self._wrong(f"{live} attempts are live, and {self._most_live} may be")
        self.relations.submitted(attempt)

    def acknowledged(self, key: str) -> None:
        """A leader says that it needs the outcome no more."""
        job, attempt = self._parts(key)
        if job in self.state.live and self.state.jobs[job].attempt == attempt and not self._lenient:
            self._wrong(f"{key} is acknowledged, and no durable event says how it ended")

    def _know(self, event: ev.Event) -> None:
        if event.seq <= len(self.known):
            if event != self.known[event.seq - 1]:
                self._wrong(f"event {event.seq} was {self.known[event.seq - 1]}, and is now {event}")
            return
        if event.seq != len(self.known) + 1:
            self._wrong(f"event {event.seq} follows event {len(self.known)}")
            return
        self.known.append(event)
        try:
            apply(self.state, _EVENTS.decode(msgspec.json.encode(event)))  # as it comes from a log
        except Exception as error:  # noqa: BLE001 - whatever it is, this event must not be in a log
            self._wrong(f"the fold does not take event {event.seq}: {error!r}")
        self._look(event)
        self.relations.know(event)

    def _look(self, event: ev.Event) -> None:
        """What is seen without the fold."""
        match event:
            case ev.Added():
                self._names[event.job] = event.name
                self._by[event.job] = event.by
                self._forms[event.job] = event.form
                self._stored(event, [event.body])
            case ev.Submitting():
                self._intend(event)
            case ev.Rewound():
                self._rewound(event)
            case ev.Closed(reason="stopped") if self.state.live:
                self._wrong(
                    f"event {event.seq}: the run is said to be stopped, and {len(self.state.live)} attempts live"
                )
            case ev.Requested(what="cancel"):
                self._cancelling = True
            case ev.Restarted() if self._cancelling:
                self._wrong(f"event {event.seq}: the run is restarted, and was to be cancelled")
            case ev.Ended():
                if self._cancelling and event.outcome != "cancelled":
                    self._wrong(f"the run has {event.outcome}, and was to be cancelled")
                self._cancelling = False
            case _ if isinstance(event, ENDS):
                self._end(event)

    def _intend(self, event: ev.Submitting) -> None:
        if event.attempt != self._latest.get(event.job, 0) + 1:
            self._wrong(f"event {event.seq} numbers an attempt {event.key}, after {self._latest.get(event.job, 0)}")
        self._latest[event.job] = event.attempt
        self._intended.add(event.key)
        if self.state.stopping or self.state.paused or self.state.cancelling:
            self._wrong(f"event {event.seq} intends {event.key}, and the run is to stop, or paused, or cancelled")

    def _rewound(self, event: ev.Rewound) -> None:
        """What is dropped was not committed, as far as it goes by names: it will be again."""
        for job in (event.job, *self._by):
            if job == event.job or self._is_made_by(job, event.job):
                self.committed[self._bodies.pop(job, "")] -= 1

    def _is_made_by(self, job: int, maker: int) -> bool:
        while job and job != maker:
            job = self._by[job]
        return job == maker

    def _end(self, event: ev.Succeeded | ev.Surveyed | ev.Retrying | ev.Failed | ev.Cancelled) -> None:
        if event.attempt != self._latest.get(event.job):
            self._wrong(f"event {event.seq}: attempt {event.attempt} of job {event.job} speaks, and is not the latest")
        if (event.job, event.attempt) in self._ended:
            self._wrong(f"event {event.seq}: attempt {event.attempt} of job {event.job} ends twice")
        self._ended.add((event.job, event.attempt))
        if isinstance(event, ev.Succeeded):
            if self._forms[event.job] != "service":
                self._commit(event)
            self._stored(event, [event.value], event.files)
            self._is_what_was_left(event)

    def _commit(self, event: ev.Succeeded) -> None:
        name = self._bodies[event.job] = self._names.get(event.job, "?")
        self.committed[name] += 1
        if self.committed[name] > 1:
            self._wrong(f"event {event.seq}: the body of {name} is committed a second time")

    def _is_what_was_left(self, event: ev.Succeeded) -> None:
        """Does it commit what the body of that attempt has left behind, and all of it?"""
        left = self._left.get(f"{RUN}.{event.job}.{event.attempt}")
        if left is None or left.reason is not Reason.FINISHED:
            same = False
        else:
            base = self.state.next_job - len(left.jobs)
            refs = [base + ref for ref in left.refs]
            same = (left.value, left.files, refs, left.alias, len(left.jobs)) == (
                event.value, event.files, event.refs, event.alias, event.added,
            )  # fmt: skip
        if not same and not self._lenient:
            self._wrong(f"event {event.seq} commits what the body of that attempt has not left behind: {left}")

    # What happens in the batch system.

    def body_started(self, attempt: Attempt) -> None:
        """A body begins to run."""
        for other in self.running.values():
            older = other.job == attempt.job and other.attempt <= attempt.attempt
            if older and other.key not in self._written_off and not self._lenient:
                self._wrong(f"{attempt.key} starts while {other.key} runs, and may still commit")
        running = {key: other for key, other in self.running.items() if key not in self._written_off}
        self.relations.body_started(attempt, running)
        self.running[attempt.key] = attempt

    def body_ended(self, key: str, outcome: Outcome | None = None) -> None:
        """A body does not run any more; `outcome` is what it left behind, if it came to its end."""
        self.running.pop(key, None)
        if outcome is not None:
            self._left[key] = outcome

    def written_off(self, key: str) -> None:
        """The batch system says that an attempt is gone, although its body may run on."""
        self._written_off.add(key)

    def in_use(self) -> tuple[float, int]:
        """Cores and memory of all bodies that run."""
        wanted = [attempt.resources for attempt in self.running.values()]
        return sum(each.cores for each in wanted), sum(each.memory for each in wanted)

    # At the end.

    def check_end(self, names: set[str], reused: set[str]) -> None:
        """The run has succeeded: each body was committed once, and every file that an event names is there."""
        if +self.committed != Counter(dict.fromkeys(names, 1)):
            self._wrong(f"committed: {self.committed}; expected each of {sorted(names)} once")
        if self.relations.reused != reused:
            self._wrong(f"reused: {sorted(self.relations.reused)}; expected {sorted(reused)}")
        rows = self.state.jobs.values()
        left = [(row.id, str(row.state)) for row in rows if row.state not in (JobState.DONE, JobState.DROPPED)]
        if left:
            self._wrong(f"jobs are left: {left}")
        if self.state.lanes["service"] or self.state.idle:
            self._wrong("services run after the end")
        if any(row.state in LIVE for row in rows) or self.state.live:
            self._wrong("attempts are live after the end")
        for event in self.known:
            for blob in _blobs(event):
                self._stored(event, [blob])

    def _stored(self, event: ev.Event, blobs: Sequence[ev.Blob], files: Sequence[ev.StoredFile] = ()) -> None:
        named = [(blob.file, blob.size, blob.digest) for blob in blobs if blob.file]
        named += [(each.path, each.size, each.digest) for each in files]
        for path, size, digest in [] if self._again else named:
            data = self._disk.durable(f"{self._root}/{path}")
            if data is None:
                self._wrong(f"event {event.seq} names the file {path}, which would not survive a power cut")
            elif len(data) != size or f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
                self._wrong(f"event {event.seq} names the file {path}, which has other contents than it says")

    @staticmethod
    def _parts(key: str) -> tuple[int, int]:
        _, job, attempt = parse_key(key)
        return job, attempt

    def _wrong(self, text: str) -> None:
        self.violations.append(text)

    def _wrong_unless_lenient(self, text: str) -> None:
        if not self._lenient:
            self._wrong(text)


def _blobs(event: ev.Event) -> Iterator[ev.Blob]:
    if isinstance(event, ev.Added):
        yield event.body
    elif isinstance(event, ev.Succeeded):
        yield event.value
