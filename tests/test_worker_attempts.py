"""What a worker of a batch system makes of one attempt: real worker processes, and a real store."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import helpers, jobs
from support.agents import TESTS
from support.nodes import Batch, ended, kinds, until

from orch.attempt import Reason
from orch.bundle import Source, freeze
from orch.bus.events import Accelerator
from orch.store.blobs import blob_bytes
from orch.worker.spool import Ticket


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[Batch]:
    found = Batch(tmp_path)
    yield found
    found.end()


# Commands ---------------------------------------------------------------------------------------------------------


def test_a_command_runs_and_its_outcome_is_there(batch: Batch) -> None:
    outcome = batch.run_here(batch.shell("echo out; echo err >&2"))
    assert outcome.reason is Reason.FINISHED
    assert (outcome.stdout.data, outcome.stderr.data) == (b"out\n", b"err\n")
    assert batch.result(outcome).stdout == "out\n"
    assert outcome.host
    assert batch.left_on_node() == []


def test_what_a_program_says_at_its_end_is_in_the_outcome_and_not_the_worker_s(batch: Batch) -> None:
    outcome = batch.run_here(batch.shell("exit 3"))
    assert (outcome.reason, outcome.exit_code, outcome.message) == (Reason.FAILED, 3, "exit code 3")
    outcome = batch.run_here(batch.shell("kill -SEGV $$"))
    assert (outcome.reason, outcome.signal) == (Reason.FAILED, 11)
    outcome = batch.run_here(batch.command("there-is-no-such-program"))
    assert (outcome.reason, outcome.exit_code) == (Reason.FAILED, 127)


def test_what_it_writes_can_be_read_meanwhile_and_afterwards(batch: Batch, tmp_path: Path) -> None:
    held = tmp_path / "held"
    os.mkfifo(held)
    submission = batch.order(batch.shell(f"echo begun; echo trouble >&2; cat {held}; echo over"))
    worker = batch.start(submission)
    out, err = (Path(batch.spool.path("output", f"{submission}.1.{stream}")) for stream in ("out", "err"))
    until(lambda: err.exists() and err.read_text(encoding="utf-8") == "trouble\n")
    assert out.read_text(encoding="utf-8") == "begun\n"
    until(lambda: batch.spool.started(Ticket(submission, 1)))
    started = batch.spool.started(Ticket(submission, 1))
    assert started is not None
    assert b"cat" in b"".join(Path(f"/proc/{started.pid}/cmdline").read_bytes().split(b"\0"))
    held.write_text("held\n", encoding="utf-8")
    assert ended(worker) == (0, "")
    assert out.read_text(encoding="utf-8") == "begun\nheld\nover\n"
    assert batch.outcome_of(submission).stdout.data == b"begun\nheld\nover\n"


def test_limits_are_kept_as_by_an_agent(batch: Batch) -> None:
    outcome = batch.run_here(batch.shell("sleep 3600", walltime=0.05))
    assert outcome.reason is Reason.MAXJOBDURATION
    outcome = batch.run_here(batch.python(jobs.eat, 200 << 20, memory=50 << 20))
    assert outcome.reason is Reason.MEMLIMIT
    outcome = batch.run_here(batch.shell("head -c 100000 /dev/zero", max_log=1000))
    assert outcome.stdout.cut > 90_000


def test_it_has_what_it_asks_for_whatever_this_host_has(batch: Batch) -> None:
    """The batch system has given it; a worker that knew better would wait for ever."""
    wanted: dict[str, Any] = {
        "cores": 4096.0,
        "memory": 1 << 50,
        "disk": 1 << 50,
        "accelerators": (Accelerator("gpu", 8),),
    }
    batch.login["CUDA_VISIBLE_DEVICES"] = "4,5"
    shown = "echo $CUDA_VISIBLE_DEVICES ${ORCH_ACCELERATORS_GIVEN-not said}"
    assert batch.run_here(batch.shell(shown, **wanted)).stdout.data == b"4,5 not said\n"
    wanted["accelerators"] = (Accelerator("gpu", 2, "a100"),)
    assert batch.run_here(batch.shell(shown, **wanted)).stdout.data == b"4,5 gpu:a100=4,5\n"


# Python -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["fork", "pool"])
def test_a_python_body_has_a_value(batch: Batch, form: str) -> None:
    assert batch.value(batch.run_here(batch.python(jobs.add, 1, 2, form=form))) == 3
    assert batch.left_on_node() == []


def test_a_body_writes_files_notes_and_large_values(batch: Batch) -> None:
    outcome = batch.run_here(batch.python(jobs.write_file, "größe"))
    [stored] = outcome.files
    assert (Path(batch.store.root) / stored.path).read_text(encoding="utf-8") == "größe"
    submission = batch.order(batch.python(jobs.note, "loss", 0.5))
    assert ended(batch.start(submission)) == (0, "")
    assert kinds(batch.notes_of(submission)) == ["annotate", "log"]


def test_a_body_that_raises_has_failed(batch: Batch) -> None:
    outcome = batch.run_here(batch.python(jobs.add, 1, "2"))
    assert outcome.reason is Reason.FAILED
    assert "TypeError" in outcome.message


def test_code_from_a_bundle_that_is_broken(batch: Batch, tmp_path: Path) -> None:
    workflow = tmp_path / "broken.py"
    workflow.write_text(
        "import orch\n@orch.workflow\ndef main():\n    return 1\nimport os\nif 'X' not in os.environ: 1 / 0\n"
    )
    bundle = freeze(Source.file(workflow), batch.store).digest
    assert "ZeroDivisionError" in batch.run_here(batch.python(jobs.add, 1, 2, bundle=bundle)).message
    batch.environment["X"] = "set"
    assert batch.value(batch.run_here(batch.python(jobs.add, 1, 2, bundle=bundle))) == 3


# Services ---------------------------------------------------------------------------------------------------------


def test_a_service_says_that_it_is_up_and_stops_when_it_is_asked_to(batch: Batch, tmp_path: Path) -> None:
    said = tmp_path / "said"
    submission = batch.order(batch.python(helpers.service, str(said), form="service"))
    worker = batch.start(submission)
    until(lambda: "up" in kinds(batch.notes_of(submission)))
    [up] = [note for note in batch.notes_of(submission) if note.kind == "up"]
    assert pickle.loads(blob_bytes(batch.store, up.blob)) == {"address": "here"}
    batch.spool.ask_to_stop(Ticket(submission, 1))
    assert ended(worker) == (0, "")
    assert batch.outcome_of(submission).reason is Reason.FINISHED
    assert said.read_text(encoding="utf-8").split() == ["start", "stop"]


# Environments -----------------------------------------------------------------------------------------------------


def test_a_job_has_the_run_s_environment_and_what_the_batch_system_says(batch: Batch) -> None:
    batch.login |= {
        "SLURM_JOB_ID": "17",
        "OF_THE_LOGIN": "yes",
        "PATH": "/nowhere",
        "ORCH_JOBS": "1",
        "SHELL": "/bin/x",
    }
    batch.environment |= {"WÖRTER": "Größe\udcff"}
    found = batch.run_here(batch.command("env")).stdout.data.decode("utf-8", "surrogateescape").splitlines()
    assert {"GIVEN=by the run", "SLURM_JOB_ID=17", "SHELL=/bin/x", "WÖRTER=Größe\udcff"} <= set(found)
    assert f"PATH={os.environ['PATH']}" in found
    assert not [line for line in found if line.startswith(("OF_THE_LOGIN", "ORCH_JOBS"))]


def test_almost_no_environment_is_enough(batch: Batch) -> None:
    batch.login = {"TMPDIR": str(batch.tmp)}  # else what is made in /tmp is not seen here
    batch.environment = {}
    assert batch.value(batch.run_here(batch.python(jobs.add, 1, 2))) == 3
    assert batch.run_here(batch.shell("echo $PATH")).reason is Reason.FINISHED


def test_the_worker_s_way_to_orch_is_its_template_s(batch: Batch, tmp_path: Path) -> None:
    batch.login["PYTHONPATH"] = str(tmp_path / "installed")
    batch.environment["PYTHONPATH"] = str(TESTS)
    found = batch.value(batch.run_here(batch.python(jobs.environment, "PYTHONPATH")))
    assert found == f"{TESTS}:{tmp_path / 'installed'}"


def test_anything_in_every_path(tmp_path: Path) -> None:
    root = tmp_path / "Größe 'n\" $HOME\n*"
    root.mkdir()
    batch = Batch(root, run="läuft 'so'")
    assert batch.value(batch.run_here(batch.python(jobs.add, 1, 2))) == 3
    outcome = batch.run_here(batch.shell("pwd"))
    assert str(root) in outcome.stdout.data.decode()
    assert batch.left_on_node() == []
    batch.end()


def test_a_probe_says_what_it_sees(batch: Batch) -> None:
    import msgspec

    from orch.worker.spool import Sight

    submission = batch.order(probe=True)
    batch.spool.write_nonce(submission, "Nonce 17")
    assert ended(batch.start(submission)) == (0, "")
    seen = msgspec.msgpack.decode(batch.outcome_of(submission).value.data, type=Sight)
    assert (seen.nonce, seen.executable, seen.trouble) == ("Nonce 17", sys.executable, "")
    assert seen.python == ".".join(map(str, sys.version_info[:3]))
    assert seen.host
