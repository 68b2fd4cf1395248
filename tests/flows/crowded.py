"""A service that holds nearly half of what there is, and a user that wants half: two such runs wait for each other."""

from __future__ import annotations

from typing import Any

import orch
from flows.served import Server, wait, write


@orch.job
def hold_up(said: str, pipe: str, name: str) -> str:
    """Until there is a byte in a pipe."""
    write(said, f"+gate of {name}")
    wait(pipe)
    return name


@orch.job(retries=1, retry_backoff="1h")
def try_later(gate: str) -> str:
    raise ConnectionError(f"not yet, {gate}")


@orch.job
def use(said: str, gate: str, credentials: Any) -> str:
    write(said, f"+user of {credentials['name']}")
    return gate


@orch.workflow
def main(said: str, pipe: str, name: str, cores: float, later: bool = False) -> Any:
    """The user comes once the gate is open. `cores`: what there is; `later`: another job backs off from then on."""
    gate = hold_up.options(cores=0.1 * cores, name="gate")(said, pipe, name)
    up = orch.context().add_service(Server(said, name, cores=0.4 * cores))
    users = [use.options(cores=0.5 * cores, name=f"user of {name}")(said, gate, up)]
    return [*users, try_later.options(cores=0.1 * cores)(gate)] if later else users
