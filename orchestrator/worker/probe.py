"""What a worker sees that was sent ahead to look whether work can be sent at all."""

from __future__ import annotations

import sys
import time

import msgspec

from orch import __version__
from orch.attempt import Outcome, Reason
from orch.bus.events import Blob
from orch.bus.identity import utc_now
from orch.worker.spool import Sight, Spool, Ticket


def probe(spool: Spool, ticket: Ticket, host: str) -> Outcome:
    """The outcome of a probe: its value is a `Sight` as msgpack."""
    try:
        nonce, trouble = spool.read_nonce(ticket.submission), ""
    except (OSError, ValueError) as error:
        nonce, trouble = "", f"what was written for it cannot be read: {error}"
    seen = Sight(
        host=host,
        python=".".join(map(str, sys.version_info[:3])),
        version=__version__,
        executable=sys.executable,
        clock=time.time(),
        nonce=nonce,
        trouble=trouble,
    )
    data = msgspec.msgpack.encode(seen)
    value = Blob(data=data, size=len(data))
    return Outcome(key=str(ticket), reason=Reason.FINISHED, exit_code=0, value=value, host=host, ended=utc_now())
