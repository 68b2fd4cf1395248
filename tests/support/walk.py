"""Random legal logs, made without any leader: wilder than what one would write, and still by the law."""

from __future__ import annotations

import random

from orch.bus import events as ev
from orch.state import chain
from orch.state.law import JobState
from orch.state.model import Job
from orch.state.policy import Rules
from orch.state.react import added
from orch.testing.states import check
from support.folded import begun
from support.random_graphs import passable, random_jobs

FILE = ev.StoredFile(path="f", keep="successors")


class Walk:
    """The log so far, in `events`, and its state in `told.state`, checked after each of them."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.told = begun()
        if seed % 2:
            self.told.state.jobs.hot = 2  # nearly all rows are packed, at every step
        jobs, refs = self._jobs(0, 0, 7)
        self.then(*jobs)
        self.then(ev.Planned(count=len(jobs), refs=refs))

    @property
    def events(self) -> list[ev.Event]:
        return self.told.events

    def then(self, *events: ev.Event) -> None:
        for event in events:
            self.told.then(event)
            check(self.told.state)

    def _jobs(self, by: int, attempt: int, most: int) -> tuple[list[ev.Added], list[int]]:
        """New jobs, and some of them that may stand in a value, now and then twice."""
        jobs, base = random_jobs(self.chance, most), self.told.state.next_job
        refs = [base + job for job in passable(jobs) for _ in range(self.chance.choice([0, 0, 1, 1, 2]))]
        return added(jobs, base, by, attempt, Rules()), refs

    def step(self) -> None:
        state = self.told.state
        ready = [*state.ready, *state.delayed, *state.surveyed]
        if self.chance.random() < 0.05:
            self._disturb()
        elif state.rewinds and self.chance.random() < 0.7:
            self._rewind()
        elif state.removable and self.chance.random() < 0.7:
            self.then(ev.Removed(job=next(iter(state.removable)), files=["f"]))
        elif state.live and (not ready or self.chance.random() < 0.6):
            self._live(state.jobs[self.chance.choice(list(state.live))])
        elif ready:
            self._intend(state.jobs[self.chance.choice(ready)])
        elif not state.rewinds and (state.active or state.failed or not state.outcome):
            self._end()

    # The run ------------------------------------------------------------------------------------------------------

    def _disturb(self) -> None:
        kinds = ["cancel", "stop", "pause", "resume", "restart", "open", "orphans", "abandon", "adjust", "recode"]
        what = self.chance.choice(kinds)
        state = self.told.state
        opened = ev.Opened(run="r", host="h", pid=2, epoch=state.epoch + 1)
        if what == "restart" and state.outcome != "succeeded":
            self.then(ev.Restarted())
        elif what == "open":
            self.then(opened)
        elif what == "orphans" and state.live:  # new jobs of an attempt that will not get as far as to commit them
            job = next(iter(state.live))
            self.then(*self._jobs(job, state.jobs[job].attempt, 3)[0], opened)
        elif what == "abandon" and not state.outcome:
            self.then(ev.Abandoned(why="deadlock", message="only services run"))
        elif what == "recode":
            self.then(ev.Recoded(bundle=f"b{state.seq}", previous=state.bundle))
        elif what == "adjust":
            self.then(ev.Adjusted(settings={"max_jobs": self.chance.randint(0, 5)}))
        elif what in ("cancel", "stop", "pause", "resume"):
            self.then(ev.Requested(what=what))

    def _rewind(self) -> None:
        job, failed = self.chance.choice(list(self.told.state.rewinds.items()))
        self.then(ev.Rewound(job=job, failed=failed, wait=self.chance.choice([0.0, 3.0])))

    def _end(self) -> None:
        state = self.told.state
        if state.active:  # what services that were lost for good have left
            self.then(ev.Abandoned(why="deadlock", message="these jobs wait for each other"))
        if not state.outcome:
            self.then(ev.Ended(outcome="failed"))
        self.then(ev.Restarted())

    # Attempts -----------------------------------------------------------------------------------------------------

    def _intend(self, row: Job) -> None:
        """Hand a job over: alone, or with what can run in its place, or with the value of another call instead."""
        state = self.told.state
        if row.id in state.surveyed and self.chance.random() < 0.5:
            self.then(ev.Reused(job=row.id, run="other", source=7, values=[ev.Kept(value=ev.Blob())]))
            return
        links = [row, *(chain.links(state, row) if self.chance.random() < 0.7 else ())]
        before = 0
        for each in links:
            number = each.attempt + 1
            key = f"r.{each.id}.{number}"
            self.then(ev.Submitting(job=each.id, attempt=number, key=key, after=before, survey=each.survey))
            before = each.id

    def _live(self, row: Job) -> None:
        job, attempt = row.id, row.attempt
        kinds = ["submitted", "running", "up", "succeeded", "succeeded", "succeeded", "retrying", "failed", "cancelled"]
        what = self.chance.choice(kinds)
        if what == "submitted" and row.state is JobState.SUBMITTING:
            self.then(ev.Submitted(job=job, attempt=attempt))
        elif what == "running" and row.state is not JobState.RUNNING and (not row.after or self.chance.random() < 0.1):
            self.then(ev.Running(job=job, attempt=attempt))
        elif row.after:
            return  # the one before it must end first
        elif what == "up" and row.form == "service" and row.state is JobState.RUNNING and not row.valued:
            self.then(ev.Serving(job=job, attempt=attempt))
        elif what == "succeeded" and not row.unwanted:
            self._succeeded(row)
        elif what == "retrying" and not row.unwanted:
            self._retrying(row)
        elif what == "failed" and not row.unwanted and self.chance.random() < 0.5:
            self.then(ev.Failed(job=job, attempt=attempt, reason="FAILED"))
        elif what == "cancelled" and (row.unwanted or self.told.state.ending):
            self.then(ev.Cancelled(job=job, attempt=attempt))

    def _retrying(self, row: Job) -> None:
        more = ev.Resources(memory=2 * row.resources.memory + 1) if self.chance.random() < 0.3 else None
        self.then(
            ev.Retrying(
                job=row.id,
                attempt=row.attempt,
                reason="LOST",
                charged=self.chance.random() < 0.5,
                wait=self.chance.choice([0.0, 2.0]),
                resources=more,
            )
        )

    def _succeeded(self, row: Job) -> None:
        if row.survey:
            call = ev.Call(digest="d") if row.cache and self.chance.random() < 0.7 else None
            self.then(ev.Surveyed(job=row.id, attempt=row.attempt, resources=ev.Resources(cores=2), call=call))
            return
        service = row.form == "service"
        if service and not row.valued:
            return
        most = 0 if service or self.chance.random() < 0.3 else 4
        jobs, refs = self._jobs(row.id, row.attempt, most)
        self.then(*jobs)
        alias = bool(refs) and self.chance.random() < 0.3
        self.then(
            ev.Succeeded(
                job=row.id,
                attempt=row.attempt,
                added=len(jobs),
                refs=refs[:1] if alias else refs,
                alias=alias,
                files=[FILE] if self.chance.random() < 0.3 else [],
            )
        )
