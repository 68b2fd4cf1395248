"""More faults that are put into the engine on purpose: in what jobs are to each other beside values."""

from __future__ import annotations

from typing import Any

from orch.agent import core as core_module
from orch.attempt import Outcome, Reason
from orch.bus import events as ev
from orch.leader.backoff import Backoff
from orch.state import attempts as attempts_module
from orch.state import chain, graph
from orch.state import decide as decide_module
from orch.state import fold as fold_module
from orch.state import rewind as rewind_module
from orch.state.model import Job, State
from simulator import batch as batch_module
from simulator.bodies import Bodies
from simulator.planted import AGENTS, LEADERS, RICH, SERVICES, Patch, fault, handle


@fault("children look for a service that is not there yet", SERVICES)
def start_children_before_services(patch: Patch) -> None:
    patch.setattr(graph, "_services_are_up", lambda _state, _job: True)


@fault("a follow-on starts while something below the children of its job is still to be done")
def start_follow_ons_too_early(patch: Patch) -> None:
    def put_below(state: State, superior: Job, job: Job, role: int) -> None:
        real(state, superior, job, role)
        superior.open = 0

    real = graph._put_below
    patch.setattr(graph, "_put_below", put_below)


@fault("a link of a chain that is void blocks its job for ever")
def keep_void_links(patch: Patch) -> None:
    patch.setattr(chain, "void", lambda *_: None)


@fault("a link of a chain starts although its predecessor's value is not known yet")
def pass_on_what_is_not_known(patch: Patch) -> None:
    def passes_on(outcome: Outcome) -> bool:
        return outcome.reason is Reason.FINISHED

    patch.setattr(core_module, "passes_on", passes_on)
    patch.setattr(batch_module, "passes_on", passes_on)


@fault("what a checkpoint has dropped runs on beside what it makes again", RICH)
def rewind_without_ending_what_lives(patch: Patch) -> None:
    def rewind(state: State, checkpoint: Job, time: str) -> list[Job]:
        todo = real(state, checkpoint, time)
        for row in [state.jobs[job] for job in state.unwanted]:
            del state.live[row.id]
            chain.leave(state, row)
            rewind_module.drop(state, row, todo, time)
        return todo

    real = rewind_module.rewind
    patch.setattr(attempts_module, "rewind", rewind)


@fault("jobs go on with a service that is gone", SERVICES)
def leave_the_users_of_a_lost_service_alone(patch: Patch) -> None:
    def make_unknown(state: State, service: Job, todo: list[Job], time: str) -> None:
        real(state, service, todo, time)
        state.stale.clear()

    real = graph.make_unknown
    patch.setattr(attempts_module, "make_unknown", make_unknown)


@fault("jobs look for a service where its lost predecessor was", SERVICES)
def give_the_credentials_of_a_lost_service(patch: Patch) -> None:
    real = fold_module.HANDLERS[ev.Serving]

    def serving(state: State, event: ev.Serving) -> None:
        before = state.jobs[event.job].value_seq
        real(state, event)
        state.jobs[event.job].value_seq = before or event.seq

    handle(patch, ev.Serving, serving)


@fault("a service is stopped while jobs use it", SERVICES)
def stop_services_too_early(patch: Patch) -> None:
    def to_stop(state: State) -> list[str]:
        services = [state.jobs[service] for each in state.services.values() for service in each]
        return [row.key for row in services if row.id in state.live and row.valued]

    patch.setattr(decide_module, "to_stop", to_stop)


@fault("a service runs for ever, and the run with it")
def forget_to_stop_services(patch: Patch) -> None:
    patch.setattr(decide_module, "to_stop", lambda _: [])


@fault("what fails is tried again at once, again and again")
def ignore_the_back_off(patch: Patch) -> None:
    def set_(self: Backoff, job: int, _wait: float) -> None:
        real(self, job, 0.0)

    real = Backoff._set
    patch.setattr(Backoff, "_set", set_)


@fault("a job that backs off is forgotten by the next leader", LEADERS)
def forget_who_backs_off(patch: Patch) -> None:
    def init(self: Backoff, *args: Any) -> None:
        real(self, *args)
        self._due.clear()

    real = Backoff.__init__
    patch.setattr(Backoff, "__init__", init)


@fault("files are deleted that somebody has yet to read", RICH)
def remove_files_too_early(patch: Patch) -> None:
    real = fold_module.HANDLERS[ev.Succeeded]

    def succeeded(state: State, event: ev.Succeeded) -> None:
        users = list(state.jobs[event.job].users)
        real(state, event)
        if event.job in state.keeping and users:
            del state.keeping[event.job]
            state.removable[event.job] = None

    handle(patch, ev.Succeeded, succeeded)


@fault("an attempt is given what the first one was given, and had too little of")
def forget_what_is_asked_for(patch: Patch) -> None:
    real = fold_module.HANDLERS[ev.Retrying]

    def retrying(state: State, event: ev.Retrying) -> None:
        before = state.jobs[event.job].resources
        real(state, event)
        state.jobs[event.job].resources = before

    handle(patch, ev.Retrying, retrying)


@fault("an attempt starts in what an earlier one has yet to clean up", AGENTS)
def start_before_what_was_deferred_is_done(patch: Patch) -> None:
    patch.setattr(Bodies, "catching_up", property(lambda _: False))
