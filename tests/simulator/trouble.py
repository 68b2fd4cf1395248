"""What goes wrong in a story, and when. Each story has a theme: faults that are worse together come together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from orch.attempt import Reason
from simulator.batch import Batch, Wildness
from simulator.host import Host, Weather

if TYPE_CHECKING:
    from simulator.process import Process
    from simulator.story import Story

CALM = 60.0
"""Virtual seconds until nothing goes wrong any more."""

ENDS = {
    Reason.FAILED: 0.05,
    Reason.MEMLIMIT: 0.02,
    Reason.LOST: 0.05,
    Reason.PREEMPTED: 0.03,
    Reason.PARTITION: 0.02,
    Reason.MAXJOBDURATION: 0.02,
}

SERVICES = "services"
"""The theme of services that are lost: jobs have more of them."""

THEMES: Mapping[str, Mapping[str, int]] = {
    "everything": {
        "kill": 2, "kill_soon": 2, "interrupt": 2, "stop": 1, "power_cut": 1, "disk_full": 1, "second_leader": 1,
        "wish": 2, "clock_jump": 2, "agent": 3,
    },
    "leaders": {"kill": 1, "kill_soon": 4, "interrupt": 3, "stop": 2, "second_leader": 6},
    "disk": {"power_cut": 8, "disk_full": 2, "kill_soon": 1, "stop": 1, "second_leader": 1},
    "system": {"agent": 5, "kill_soon": 1},
    "wishes": {"wish": 6, "kill_soon": 3, "agent": 1},
    SERVICES: {"agent": 2, "kill_soon": 2, "interrupt": 1, "second_leader": 1},
}  # fmt: skip
"""How often each misfortune comes, in parts."""


class Trouble:
    """Everything that goes wrong in one story, from its seed."""

    def __init__(self, story: Story, theme: str) -> None:
        self.over = False
        self._story = story
        self._world = story.world
        chance = story.world.chance
        self.theme = theme
        story.world.say("story", f"the theme is {self.theme}")
        self._upset_the_system()
        self._upset_the_disk()
        kinds = [kind for kind, parts in THEMES[self.theme].items() for _ in range(parts)]
        horizon = 20.0 if self.theme == "disk" else chance.choice([0.3, 1.0, 3.0, 10.0])
        for _ in range(chance.choice([0, 2, 4, 8, 16])):
            self._world.later(chance.uniform(0, horizon), getattr(self, f"_{chance.choice(kinds)}"))
        self._world.later(CALM, self._calm_down)

    def _upset_the_system(self) -> None:
        chance = self._world.chance
        ends = {reason: often * chance.choice([0, 1, 2]) for reason, often in ENDS.items()}
        longest = chance.choice([0.1, 2.0, 10.0])
        slow = chance.choice([0.0, 1.0])
        forsakes = chance.choice([0.5, 0.9]) if self.theme == SERVICES else 0.0
        system = self._story.system
        if isinstance(system, Host):
            system.weather = Weather(
                delay=chance.choice([0.0, 0.01, 0.5]),
                longest=longest,
                slow=slow,
                ends=ends,
                cannot=chance.choice([0.0, 0.02]),
                dies=chance.choice([0.0, 0.2, 0.5]),
                defers=chance.choice([0.0, 0.6]),
                forsakes=forsakes,
            )
            return
        system.wild = Wildness(
            delay=chance.choice([0.0, 0.1, 1.0]),
            longest=longest,
            slow=slow,
            ends=ends,
            twice=chance.choice([0.0, 0.3]),
            unheard=chance.choice([0.0, 0.2]),
            vanishes=chance.choice([0.0, 0.1]),
            denies=chance.choice([0.0, 0.05, 0.3]),
            gives_up=chance.choice([0.0, 0.01]),
            partial=chance.choice([0.0, 0.01]),
            forsakes=forsakes,
        )

    def _upset_the_disk(self) -> None:
        chance, faults = self._world.chance, self._story.disk.faults
        faults.latency = {
            "": chance.choice([0.0, 0.001, 0.01]),
            "sync": chance.choice([0.001, 0.01, 0.5]),
            "create": chance.choice([0.0, 1.0]),  # a leader that takes over, and one that does not know of it yet
        }
        if self.theme == "disk" or chance.random() < 0.2:
            kinds = ("write", "sync", "create", "rename", "sync_dir", "truncate", "exists", "list", "open", "read")
            faults.errors = {what: chance.choice([0.0, 0.02, 0.1]) for what in kinds}
            if self.theme == "disk":  # what a failed sync has lost is seen after a power cut only
                faults.errors["sync"] = chance.choice([0.05, 0.1, 0.2])

    def _calm_down(self) -> None:
        self._world.say("story", "nothing goes wrong from here on")
        self.over = True
        system, disk = self._story.system, self._story.disk
        if isinstance(system, Host):
            system.weather = Weather()
        else:
            system.wild = Wildness()
        disk.faults.errors = {}
        disk.faults.room = None
        for leader in list(self._story.leaders):
            leader.doom = 0
            leader.go_on()
        self._resume()

    def _resume(self) -> None:
        """A run that was paused is resumed."""
        if not self._story.over:
            for opened in self._story.opened.values():
                if opened.state.paused:
                    self._story.wish(opened, "resume")
            self._world.later(5.0, self._resume)

    # Misfortunes: one method each.

    def _victim(self) -> Process | None:
        return self._world.chance.choice(self._story.leaders) if self._story.leaders else None

    def _kill(self) -> None:
        leader = self._victim()
        if leader is not None:
            leader.kill()

    def _kill_soon(self) -> None:
        """A leader dies in one of its next steps: in the middle of whatever it does then."""
        leader = self._victim()
        if leader is not None:
            leader.doom = leader.steps + self._world.chance.randint(1, 60)

    def _interrupt(self) -> None:
        """A leader has to leave; attempts go on."""
        leader = self._victim()
        if leader is not None:
            leader.interrupt()

    def _stop(self) -> None:
        leader = self._victim()
        if leader is not None and not leader.stopped:
            leader.stop()
            self._world.soon(20.0, leader.go_on)

    def _power_cut(self) -> None:
        self._story.power_cut()

    def _disk_full(self) -> None:
        faults = self._story.disk.faults
        faults.room = self._world.chance.randint(0, 3000)
        self._world.say("disk", f"is full after {faults.room} bytes")
        self._world.soon(10.0, lambda: setattr(faults, "room", None))

    def _second_leader(self) -> None:
        if self._story.oracle.state.planned is not None and self._story.leaders:
            self._story.start_leader(take_over=self._world.likely(0.7))
        elif not self.over:  # it comes as soon as there is one beside whom it can lead
            self._world.soon(1.0, self._second_leader)

    def _clock_jump(self) -> None:
        leader = self._victim()
        if leader is not None:
            leader.offset = self._world.chance.choice([-3600.0, 3600.0, -86400.0])
            self._world.say(leader.name, f"has its clock set by {leader.offset} s")

    def _wish(self) -> None:
        leader = self._victim()
        opened = self._story.opened.get(leader) if leader is not None else None
        if leader is None or opened is None:
            if not self.over:  # it is wished as soon as somebody leads
                self._world.soon(1.0, self._wish)
            return
        self._story.wish(opened, self._world.chance.choice(["pause", "resume", "stop", "cancel", "stop", "cancel"]))
        if self._world.likely(0.6):  # it may have been heard by then, or recorded, or half pursued
            leader.doom = leader.steps + self._world.chance.randint(1, 60)

    def _agent(self) -> None:
        """Something happens to the agent of this host; other batch systems have their wildness."""
        system = self._story.system
        if isinstance(system, Batch):
            return
        kinds: list[Callable[[], None]] = [
            system.kill_agent, system.doom_agent, system.doom_agent, system.terminate_agent, system.stop_agent,
            system.hang_up,
        ]  # fmt: skip
        self._world.chance.choice(kinds)()
