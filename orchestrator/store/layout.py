"""Where things are in a store: relative paths, and nothing else.

    orch.json                                     format of the store
    bundles/DIGEST/…                              the workflow's code, frozen
    runs/RUN/log/000001.events.jsonl              the log, a segment an epoch
    runs/RUN/lock                                 held by the leader
    runs/RUN/snapshot                             the state of a long run, as folded (`orch.leader.snapshots`)
    runs/RUN/summary.json                         the run in a few words (`orch.summaries`)
    runs/RUN/values/000/JOB.ATTEMPT.…             values and bodies too large for the log
    runs/RUN/files/000/JOB.ATTEMPT/N/NAME         files that attempts wrote
    runs/RUN/logs/000/JOB-NAME.ATTEMPT.stdout     captured output too large for the log
    runs/RUN/batch/…                              what the workers of batch systems get and give (`orch.worker.spool`)
    runs/RUN/hosts/EPOCH.jsonl                    which host each attempt was handed to (`orch.adapters.agents.places`)
    runs/RUN/calls.json                           what the call cache needs of a run that was deleted
    requests/RUN.ID.json                          wishes (stop, cancel …) on their way to a leader
    agents/probes/…                               which batch systems' nodes were found fit for this store, and when
    agents/HOST/…                                 the journal and log of the agent of that host

Numbers of jobs are grouped by the thousand, so that no directory grows beyond some thousands of entries. The plan of
the workflow function is attempt 1 of job 0.
"""

from __future__ import annotations

import re


def run_dir(run: str) -> str:
    """Everything of one run."""
    return f"runs/{run}"


def log_dir(run: str) -> str:
    """The run's log: a directory of segments."""
    return f"runs/{run}/log"


def lock_file(run: str) -> str:
    """Held by the leader, for politeness."""
    return f"runs/{run}/lock"


def calls_file(run: str) -> str:
    """What the call cache needs to know of a run that was deleted."""
    return f"runs/{run}/calls.json"


def value_file(run: str, job: int, attempt: int, what: str = "value") -> str:
    """A value, or a new job's body (`what` = "body7"), that is too large for the log."""
    return f"runs/{run}/values/{job // 1000:03d}/{job}.{attempt}.{what}"


def files_dir(run: str, job: int, attempt: int) -> str:
    """Files written by one attempt."""
    return f"runs/{run}/files/{job // 1000:03d}/{job}.{attempt}"


def output_file(run: str, job: int, name: str, attempt: int, stream: str) -> str:
    """Captured output (`stream`: stdout or stderr) that is too large for the log."""
    return f"runs/{run}/logs/{job // 1000:03d}/{job}-{safe_name(name)}.{attempt}.{stream}"


def batch_dir(run: str) -> str:
    """Where the leader and the workers of a batch system leave files for each other."""
    return f"runs/{run}/batch"


def hosts_dir(run: str) -> str:
    """Which of several hosts each attempt was handed to."""
    return f"runs/{run}/hosts"


def bundle_dir(digest: str) -> str:
    """A frozen bundle."""
    return f"bundles/{digest}"


def request_file(run: str, request: str) -> str:
    """A wish on its way to the leader of `run`."""
    return f"requests/{run}.{request}.json"


def agent_dir(host: str) -> str:
    """Journal and log of the agent on `host`."""
    return f"agents/{safe_name(host)}"


def probe_file(adapter: str, digest: str) -> str:
    """That nodes of a batch system were found fit for this store."""
    return f"agents/probes/{safe_name(adapter)}-{digest}.json"


def safe_name(text: str) -> str:
    """`text` as part of a file name: unsafe characters become "_", 80 characters and 160 bytes at most."""
    plain = re.sub(r"[^\w.+-]", "_", text)[:80]
    return plain.encode()[:160].decode(errors="ignore").strip(".") or "_"
