"""Torque: what is asked, how answers are understood, what each state and exit status means."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from orch.adapters.batch.dialect import Answer, Command, NotTaken, Order, Refused, Seen, Stage, Trouble
from orch.adapters.settings import TORQUE
from orch.adapters.torque import ENDS, STAGES, Torque
from orch.attempt import Reason
from orch.bus.events import Accelerator


def order(**fields: Any) -> Order:
    given = {"name": "o-1a2b3c4d-1-1", "label": "align", "size": 1, "script": "/s/x.sh", "log": "/s/{index}.log"}
    return Order(**{**given, **fields})


def dialect(**options: str) -> Torque:
    return Torque({name.replace("_", "-"): value for name, value in options.items()}, {})


def answer(out: str = "", err: str = "", code: int = 0, command: Command | None = None) -> Answer:
    return Answer(command or Command(["qsub"]), code, out, err)


def asked(argv: list[str], option: str) -> list[str]:
    return [argv[at + 1] for at, word in enumerate(argv) if word == option]


def looked(jobs: dict[str, dict[str, Any]], ask: list[str], err: str = "", code: int = 0) -> dict[str, Seen]:
    (command,) = dialect().look(ask)
    out = "".join(
        f"Job Id: {job}\n" + "".join(f"    {name} = {value}\n" for name, value in attributes.items()) + "\n"
        for job, attributes in jobs.items()
    )
    return dialect().seen([answer(out, err, code, command)])


def ended(**attributes: Any) -> Any:
    fields = {name.replace("__", "."): value for name, value in attributes.items()}
    seen = looked({"1.h": {"job_state": "C", **fields}}, ["1.h"])["1.h"]
    assert seen.stage is Stage.OVER
    assert seen.end is not None
    assert seen.end.message.startswith("Torque: ")
    return seen.end


def test_what_a_task_asks_for() -> None:
    argv = dialect(torque_reqs="ib").submit(order(cores=2, memory=10**9, walltime=99.5, size=3)).argv
    assert asked(argv, "-l") == ["walltime=100", "nodes=1:ppn=2:ib,mem=976563kb"]
    assert asked(argv, "-t") == ["1-3"]
    assert asked(argv, "-r") == ["n"]
    assert asked(dialect().submit(order()).argv, "-l") == ["nodes=1:ppn=1"]
    assert "-t" not in dialect().submit(order()).argv
    assert "PBS_ARRAYID" in dialect().submit(order(size=3)).stdin


def test_memory_by_other_names() -> None:
    argv = dialect(torque_memory_resource="vmem, pmem").submit(order(cores=4, memory=4 << 20)).argv
    assert asked(argv, "-l") == ["nodes=1:ppn=4,vmem=4096kb,pmem=1024kb"]


def test_accelerators_and_what_a_job_passes_through() -> None:
    backend = (("nodes", "big"), ("resources", "qos=high"))
    argv = dialect().submit(order(accelerators=(Accelerator(count=2, model="k80"),), backend=backend)).argv
    assert asked(argv, "-l") == ["qos=high", "nodes=1:ppn=1:gpus=2:k80:big"]
    with pytest.raises(Refused, match="fpga"):
        dialect().submit(order(accelerators=(Accelerator(kind="fpga"),)))
    with pytest.raises(Refused, match="ppn= belongs"):
        dialect().submit(order(backend=(("nodes", "ppn=4"),)))


@pytest.mark.parametrize(
    ("env", "shown"), [({"PBS_GPUFILE": "gpus"}, "1,3"), ({"PBS_GPUFILE": "gpus", "CUDA_VISIBLE_DEVICES": "7"}, "7")]
)
def test_a_task_sees_the_devices_that_it_was_given(tmp_path: Path, env: dict[str, str], shown: str) -> None:
    (tmp_path / "gpus").write_text("node1-gpu1\nnode1-gpu3\n")
    script = tmp_path / "x.sh"
    script.write_text('#!/bin/sh\necho "$CUDA_VISIBLE_DEVICES"\n')
    script.chmod(0o700)
    given = order(script=str(script), log=f"{tmp_path}/log", accelerators=(Accelerator(count=2),))
    text = dialect().submit(given).stdin
    path = {"PATH": os.environ["PATH"]}
    subprocess.run(["/bin/sh"], input=text, text=True, check=True, env={**path, **env}, cwd=tmp_path)
    assert (tmp_path / "log").read_text() == f"{shown}\n"
    assert "CUDA" not in dialect().submit(order()).stdin


def test_settings() -> None:
    by_name = {option.name: option for option in TORQUE}
    assert "mem= belongs" in by_name["torque-args"].problem("-l mem=4gb")
    assert "ppn= belongs" in by_name["torque-reqs"].problem("ppn=4")
    assert by_name["torque-reqs"].variables == ("ORCH_PBS_REQS",)
    assert "none of mem, vmem" in by_name["torque-memory-resource"].problem("mem,ram")
    assert by_name["torque-memory-resource"].problem("mem,vmem") == ""


@pytest.mark.parametrize(
    ("kind", "code", "text"),
    [
        (Refused, 177, "qsub: submit error (Bad UID for job execution MSG=ruserok failed validating me/me from login)"),
        (Refused, 170, "qsub: submit error (Unknown queue MSG=cannot locate queue)"),
        (Refused, 168, "qsub: Job exceeds queue resource limits MSG=cannot satisfy queue max nodect requirement"),
        (Refused, 167, "qsub: Your job has been administratively rejected by the queueing system."),
        (
            NotTaken,
            194,
            "qsub: submit error (Maximum number of jobs already in queue MSG=total number of jobs in queue exceeds …)",
        ),
        (Trouble, 177, "socket_connect_unix failed: 15137\nqsub: cannot connect to server (null) (errno=15137) …"),
        (Trouble, 173, "qsub: Invalid credential"),
        (Trouble, 1, "Communication failure."),
    ],
)
def test_why_it_was_not_submitted(kind: type[Exception], code: int, text: str) -> None:
    with pytest.raises(kind) as caught:
        dialect().submitted(order(), answer("", text, code))
    assert type(caught.value) is kind


def test_each_state_of_the_manual() -> None:
    assert "".join(sorted(STAGES)) == "CEHQRSTW"
    for word, stage in STAGES.items():
        assert looked({"1.h": {"job_state": word}}, ["1.h"])["1.h"].stage is stage
    assert looked({"1.h": {"job_state": "Z"}}, ["1.h"])["1.h"] == Seen(Stage.STRANGE, "Z")


def test_tasks_of_an_array() -> None:
    jobs = {
        "7[1].head": {"job_state": "R", "exec_host": "n1/0+n1/1"},
        "7[2].head": {"job_state": "Q", "comment": "Not Running: Not enough of the right type of nodes"},
        "7[3].head": {"job_state": "H", "Hold_Types": "u"},
    }
    assert looked(jobs, ["7[].head"]) == {
        "7[1].head": Seen(Stage.RUNNING, "R", host="n1"),
        "7[2].head": Seen(Stage.QUEUED, "Q", "Not Running: Not enough of the right type of nodes"),
        "7[3].head": Seen(Stage.HELD, "H", "held (u)"),
    }


def test_what_is_forgotten_has_not_ended_by_that() -> None:
    err = "qstat: Unknown Job Id Error 9.head\n"
    assert looked({"1.h": {"job_state": "R"}}, ["1.h", "9.head"], err, 153) == {"1.h": Seen(Stage.RUNNING, "R")}
    assert looked({}, ["9.head"], err, 153) == {}
    assert list(dialect().recall(["9.head"], 0.0)) == []
    assert dialect().recalled([]) == {}


@pytest.mark.parametrize(
    "err",
    [
        "qstat: cannot connect to server head (errno=111) Connection refused",
        "qstat: Unknown Job Id Error 9.head\nqstat: End of File",
        "Unable to communicate with head(10.0.0.1)",
    ],
)
def test_trouble_is_no_answer(err: str) -> None:
    with pytest.raises(Trouble):
        looked({"1.h": {"job_state": "R"}}, ["1.h", "9.head"], err, 153)


def test_each_exit_status_of_its_own() -> None:
    memory, time = ended(exit_status=-10).reason, ended(exit_status=-11).reason
    assert (memory, time) == (Reason.MEMLIMIT, Reason.MAXJOBDURATION)
    assert (ended(exit_status=-1).reason, ended(exit_status=-4).reason) == (Reason.ERROR, Reason.LOST)
    for code, (reason, what) in ENDS.items():
        assert (ended(exit_status=code).reason, what in ended(exit_status=code).message) == (reason, True)
    assert ended(exit_status=-99).reason is Reason.ERROR
    assert ended().reason is Reason.MISSING


def test_exit_codes_and_signals() -> None:
    assert ended(exit_status=0).reason is Reason.FINISHED
    assert (ended(exit_status=3).reason, ended(exit_status=3).exit_code) == (Reason.FAILED, 3)
    assert (ended(exit_status=265).reason, ended(exit_status=265).signal) == (Reason.FAILED, 9)
    assert (ended(exit_status=271).reason, ended(exit_status=271).signal) == (Reason.KILLED, 15)


def test_limits_show_in_what_was_used() -> None:
    long = {"Resource_List__walltime": "00:01:00", "resources_used__walltime": "00:01:02"}
    assert ended(exit_status=271, **long).reason is Reason.MAXJOBDURATION
    assert ended(exit_status=0, **long).reason is Reason.MAXJOBDURATION
    large = {"Resource_List__vmem": "1gb", "resources_used__vmem": "1100000kb"}
    assert ended(exit_status=271, **large).reason is Reason.MEMLIMIT


def test_search() -> None:
    (command,) = dialect().search(["o-1-1"], 0.0)
    assert "-x" not in command.argv[2]  # XML here, and of no use
    text = "Job Id: {}\n    Variable_List = ORCHNAME={},PBS_O_QUEUE=batch\n\n"
    out = text.format("5[1].h", "o-1-1") + text.format("5[2].h", "o-1-1")
    assert dialect().found(["o-1-1"], [answer(out)]) == {"o-1-1": "5[].h"}


NODES = """n1
     state = free
     np = 8
     ntype = cluster
     status = opsys=linux,uname=Linux n1 3.10,nusers=2,totmem=9000kb,ncpus=8,physmem=8388608kb,availmem=1kb,gres=
     gpus = 2

n2
     state = down
     np = 4
"""


def test_room() -> None:
    room = dialect().room([answer(NODES)])
    assert (room.cores, room.node_cores, room.node_memory) == (12, 8, 8 << 30)
    assert room.accelerators == (Accelerator(count=2),)
