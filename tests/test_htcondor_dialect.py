"""HTCondor without HTCondor: what it is told, and what is made of its answers, which are as in its manual."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from support.dialects import answer, order

from orch.adapters import htcondor_answers
from orch.adapters.batch.dialect import Answer, End, NotTaken, Reason, Refused, Room, Seen, Stage, Trouble
from orch.adapters.htcondor import HTCondorDialect
from orch.bus.events import Accelerator
from orch.errors import UserError

MIB = 1024**2


def condor(**options: str) -> HTCondorDialect:
    return HTCondorDialect({name.replace("_", "-"): value for name, value in options.items()}, {})


def described(dialect: HTCondorDialect, **changes: Any) -> dict[str, str]:
    """The lines of a submit description; that of `queue` by that name."""
    lines = [line.partition(" = ") for line in dialect.submit(order(**changes)).stdin.splitlines()]
    assert lines[-1][0].startswith("queue ")
    return {name: value for name, _, value in lines[:-1]} | {"queue": lines[-1][0]}


def ads(*found: dict[str, Any], **more: Any) -> Answer:
    return answer(json.dumps([{"ClusterId": 7, "ProcId": 0, **ad} for ad in found], indent=1), **more)


# What it is told ---------------------------------------------------------------------------------------------------


def test_one_task() -> None:
    command = condor().submit(order())
    assert command.argv == ["condor_submit", "-terse", "-disable", "-"]
    lines = described(condor())
    assert lines["executable"] == "/store/1.sh"
    assert lines["output"] == lines["error"] == "/store/1.$(orch_index).log"
    assert lines["environment"] == '"ORCH_TASK_INDEX=$(orch_index) ORCH_TASK_ID=$(Cluster).$(Process)"'
    assert lines["queue"] == "queue orch_index in (1)"
    assert (lines["+OrchName"], lines["+JobBatchName"]) == ('"o-1"', '"a job"')
    assert (lines["getenv"], lines["transfer_executable"]) == ("False", "False")
    assert not {"request_memory", "request_disk", "request_gpus"} & {*lines}


def test_many() -> None:
    assert described(condor(), size=4)["queue"] == "queue orch_index in (1 2 3 4)"
    assert condor().task("7", 1, 4) == "7.0"


def test_what_it_needs() -> None:
    wanted = {"cores": 4, "memory": 1000 * MIB + 1, "disk": 1025, "priority": 3, "grace": 29.5}
    lines = described(condor(), **wanted, accelerators=(Accelerator("gpu", 2, "A100"),))
    assert [lines[f"request_{name}"] for name in ("cpus", "memory", "disk", "gpus")] == ["4", "1001", "2", "2"]
    assert lines["require_gpus"] == 'regexp("A100", DeviceName, "i")'
    assert (lines["priority"], lines["job_max_vacate_time"]) == ("3", "30")
    with pytest.raises(Refused, match="tpu"):
        condor().submit(order(accelerators=(Accelerator("tpu"),)))


def test_paths_and_labels_that_have_to_be_quoted() -> None:
    lines = described(condor(), script="/a b/it's/$(HOME)/ü.sh", log="/100$/{index}", label='say "hi"\\\n$(x) ü')
    assert lines["executable"] == "/a b/it's/$(DOLLAR)(HOME)/ü.sh"
    assert lines["output"] == "/100$(DOLLAR)/$(orch_index)"
    assert lines["+JobBatchName"] == r'"say \"hi\"\\ $(DOLLAR)(x) ü"'


@pytest.mark.parametrize("path", ["/a\nb", "/a ", "/a\\"])
def test_paths_that_no_description_can_name(path: str) -> None:
    with pytest.raises(Refused, match="name"):
        condor().submit(order(script=path))


def test_where_it_is_asked() -> None:
    dialect = condor(htcondor_schedd="sched@host", htcondor_pool="pool:9618", htcondor_accounting_group="g.me")
    commands = [dialect.submit(order()), *dialect.look(["7"]), *dialect.recall(["7.0"], 0), *dialect.cancel(["7.0"])]
    commands += dialect.search(["o-1"], 0)
    assert {tuple(command.argv[1:5]) for command in commands} == {("-name", "sched@host", "-pool", "pool:9618")}
    [survey] = dialect.survey()
    assert survey.argv[1:3] == ["-pool", "pool:9618"]
    assert described(dialect)["accounting_group"] == "g.me"


def test_further_lines_come_last() -> None:
    dialect = condor(htcondor_params='requirements = (OpSysMajorVer == 9); +MaxRuntime=3600\n getenv = "A,B"')
    dialect.check()
    lines = described(dialect, backend=(("+MaxRuntime", "60"), ("concurrency_limits", "disk")))
    assert lines["requirements"] == "(OpSysMajorVer == 9)"
    assert (lines["+MaxRuntime"], lines["concurrency_limits"], lines["getenv"]) == ("60", "disk", '"A,B"')


@pytest.mark.parametrize(
    "text",
    [
        "request_cpus = 4",
        "RequestMemory=1",
        "+RequestMemory = 1",
        "MY.RequestCpus=1",
        "x = 1; Executable = /bin/x",
        "queue",
    ],
)
def test_lines_that_are_for_orch_to_write(text: str) -> None:
    with pytest.raises(UserError, match="ORCH_HTCONDOR_PARAMS"):
        condor(htcondor_params=text).check()
    name, _, value = text.rpartition(";")[2].partition("=")
    with pytest.raises(Refused, match="backend"):
        condor().submit(order(backend=((name.strip(), value),)))


def test_a_line_that_is_none() -> None:
    with pytest.raises(UserError, match="NAME = VALUE"):
        condor(htcondor_params="want this").check()


# When a job removes itself ------------------------------------------------------------------------------------------

UNDEFINED = object()


def removes(walltime: float, **ad: Any) -> object:
    """What `periodic_remove` comes to, by the rules of ClassAds: UNDEFINED is no boolean."""
    text = described(condor(), walltime=walltime)["periodic_remove"]
    python = re.sub(r"\b([A-Z]\w+) (=\?=|=!=) (\w+)", r"meta('\1', '\2', \3)", text)
    python = re.sub(r"time\(\) - (\w+) > (\d+)", r"since('\1', \2)", python)
    python = re.sub(r"\b([A-Z]\w+) > (\d+)", r"over('\1', \2)", python)
    python = re.sub(r"member\((\w+), \{([\d, ]+)\}\)", r"member('\1', [\2])", python)
    python = python.replace("&&", "and").replace("||", "or").replace("!member", "not member")

    def value(name: str) -> Any:
        if name not in ad:
            raise LookupError(f"{name} is undefined, and so is the whole: HTCondor would put the job on hold")
        return ad[name]

    names = {
        "UNDEFINED": UNDEFINED,
        "meta": lambda name, sign, other: (ad.get(name, UNDEFINED) == other) is (sign == "=?="),
        "over": lambda name, most: value(name) > most,
        "since": lambda name, most: 10_000 - value(name) > most,
        "member": lambda name, many: value(name) in many,
    }
    return eval(python, {"__builtins__": {}}, names)


@pytest.mark.parametrize(
    ("ad", "removed"),
    [
        ({"JobStatus": 1}, False),
        ({"JobStatus": 1, "NumJobStarts": 0}, False),
        ({"JobStatus": 1, "NumJobStarts": 1}, True),  # evicted
        ({"JobStatus": 2}, False),
        ({"JobStatus": 2, "JobCurrentStartDate": 9_950, "NumJobStarts": 1}, False),
        ({"JobStatus": 2, "JobCurrentStartDate": 9_800, "NumJobStarts": 1}, True),
        ({"JobStatus": 4}, False),
        ({"JobStatus": 5, "EnteredCurrentStatus": 9_900, "HoldReasonCode": 34, "NumJobStarts": 1}, False),  # lately
        ({"JobStatus": 5, "EnteredCurrentStatus": 9_000, "HoldReasonCode": 34, "NumJobStarts": 1}, True),
        ({"JobStatus": 5, "EnteredCurrentStatus": 9_000, "HoldReasonCode": 6}, True),
        ({"JobStatus": 5, "EnteredCurrentStatus": 9_000, "HoldReasonCode": 26}, False),  # it may pass
        ({"JobStatus": 5, "EnteredCurrentStatus": 9_000, "HoldReasonCode": 26, "NumJobStarts": 1}, True),
        ({"JobStatus": 5, "EnteredCurrentStatus": 9_000, "HoldReasonCode": 1, "NumJobStarts": 1}, False),  # by a user
        ({"JobStatus": 5, "EnteredCurrentStatus": 9_000}, False),
    ],
)
def test_when_a_job_removes_itself(ad: dict[str, Any], removed: bool) -> None:
    assert removes(100.0, **ad) is removed


def test_a_job_without_a_wall_time_runs_for_ever() -> None:
    assert removes(0.0, JobStatus=2, JobCurrentStartDate=1, NumJobStarts=1) is False


# What it says of a submission ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("out", ["12.0 - 12.0\n", "12.0 - 12.999\n", "WARNING: x\n12.0 - 12.4\n"])
def test_taken(out: str) -> None:
    assert condor().submitted(order(), answer(out)) == "12"


@pytest.mark.parametrize(
    "err",
    [
        "\nERROR: on Line 4 of submit file: \nERROR: Failed to parse command file (line 4).\n",
        "\nERROR: Failed to commit job submission into the queue.\nERROR: Jobs must ask for less than 10 GB\n",
        "\nERROR: Number of submitted jobs would exceed MAX_JOBS_PER_SUBMISSION\n",
        "\nERROR: Executable file /x does not exist\n",
    ],
)
def test_never_taken(err: str) -> None:
    with pytest.raises(Refused, match="ERROR"):
        condor().submitted(order(), answer(err=err, code=1))


@pytest.mark.parametrize(
    "err",
    [
        "\nERROR: Can't find address of local schedd\n",
        "\nERROR: Can't find address of schedd sched@host\n",
        "\nERROR: Failed to connect to local queue manager\nSECMAN:2007:Failed to end classad message.\n",
        "\nERROR: Failed to connect to local queue manager\nAUTHENTICATE:1003:Failed to authenticate with any method\n",
        "\nERROR: Number of submitted jobs would exceed MAX_JOBS_SUBMITTED\n",
        "\nERROR: Number of submitted jobs would exceed MAX_JOBS_PER_OWNER\n",
    ],
)
def test_not_taken_now(err: str) -> None:
    with pytest.raises(NotTaken):
        condor().submitted(order(), answer(err=err, code=1))


@pytest.mark.parametrize(
    ("out", "err", "code"),
    [
        ("", "\nERROR: Failed to commit job submission into the queue.\nSECMAN:2007:Failed to end message.\n", 1),
        ("", "\nERROR: Failed to set JobStatus=1 for job 12.0 (110)\n", 1),
        ("", "", 0),
        ("", "", -9),
        ("<html>502</html>", "", 0),
        ("12.0 - 12.0", "", 1),
    ],
)
def test_perhaps_taken(out: str, err: str, code: int) -> None:
    with pytest.raises(Trouble) as caught:
        condor().submitted(order(), answer(out, err, code))
    assert not isinstance(caught.value, NotTaken)


# What it says of jobs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", htcondor_answers.STATES)
def test_each_state(status: int) -> None:
    word, stage = htcondor_answers.STATES[status]
    [(task, seen)] = condor().seen([ads({"JobStatus": status, "RemoteHost": "slot1_2@n1"})]).items()
    assert (task, seen.stage, seen.word) == ("7.0", stage, word)
    assert (seen.end is not None) == (stage is Stage.OVER)


def test_states_that_nobody_knows() -> None:
    assert condor().seen([ads({"JobStatus": 8})]) == {"7.0": Seen(Stage.STRANGE, "JobStatus 8")}
    assert condor().recalled([ads({"JobStatus": 8})])["7.0"].stage is Stage.STRANGE


def test_why_it_waits_and_where_it_runs() -> None:
    waits = {"JobStatus": 1, "LastRejMatchReason": "no match found"}
    found = condor().seen([ads(waits, {"ProcId": 1, "JobStatus": 2, "RemoteHost": "slot1_2@n1", "NumJobStarts": 1})])
    assert found == {
        "7.0": Seen(Stage.QUEUED, "Idle", "no match found"),
        "7.1": Seen(Stage.RUNNING, "Running", "", "n1"),
    }


def test_what_was_evicted_is_not_waited_for() -> None:
    seen = condor().seen([ads({"JobStatus": 1, "NumJobStarts": 1})])["7.0"]
    assert seen.stage is Stage.OVER
    assert seen.end == End(Reason.PREEMPTED, message="HTCondor: evicted")


def held(code: int, why: str = "for some reason", starts: int = 1) -> Seen:
    ad = {"JobStatus": 5, "HoldReasonCode": code, "HoldReason": why, "NumJobStarts": starts}
    return condor().seen([ads(ad)])["7.0"]


@pytest.mark.parametrize("code", htcondor_answers.HOLDS)
@pytest.mark.parametrize("starts", [0, 1])
def test_holds_for_good(code: int, starts: int) -> None:
    seen = held(code, starts=starts)
    assert seen.end is not None
    assert (seen.stage, seen.end.reason) == (Stage.OVER, htcondor_answers.HOLDS[code])
    assert "for some reason" in seen.end.message


@pytest.mark.parametrize("code", [1, 15, 16])
def test_holds_that_somebody_lifts(code: int) -> None:
    assert held(code).stage is held(code, starts=0).stage is Stage.HELD
    assert "condor_release" in held(code).why


@pytest.mark.parametrize(
    ("why", "reason"),
    [
        ("Error from slot1@n1: Job has gone over memory limit of 2048 megabytes", Reason.MEMLIMIT),
        ("The system macro SYSTEM_PERIODIC_HOLD expression 'ResidentSetSize > 1' evaluated to TRUE", Reason.MEMLIMIT),
        ("Job runtime longer than reserved", Reason.MAXJOBDURATION),
        ("disk usage exceeded request_disk", Reason.ERROR),
    ],
)
@pytest.mark.parametrize("code", htcondor_answers.BY_POLICY)
def test_holds_by_a_policy(code: int, why: str, reason: Reason) -> None:
    assert held(code, why, starts=0).stage is Stage.HELD, "it may pass"
    end = held(code, why).end
    assert end is not None
    assert end.reason is reason


def test_it_has_ended() -> None:
    done = {"JobStatus": 4, "ExitBySignal": False, "ExitCode": 0, "NumJobStarts": 1, "LastRemoteHost": "slot1@n1"}
    found = condor().recalled(
        [
            ads(
                done,
                {**done, "ProcId": 1, "ExitCode": 3, "NumJobStarts": 2},
                {**done, "ProcId": 2, "ExitBySignal": True, "ExitSignal": 9},
                {**done, "ProcId": 3, "NumJobStarts": 2},
                {**done, "ProcId": 1, "ExitCode": 4},
            )
        ]
    )
    ends = [(seen.end.reason, seen.end.exit_code, seen.end.signal) for seen in found.values() if seen.end]
    assert ends == [
        (Reason.FINISHED, 0, 0),
        (Reason.FAILED, 3, 0),  # the latest comes first
        (Reason.FAILED, None, 9),
        (Reason.LOST, None, 0),
    ]
    assert found["7.0"].host == "n1"


OURS = "The job attribute PeriodicRemove expression '...' evaluated to TRUE"


@pytest.mark.parametrize(
    ("ad", "reason", "word"),
    [
        ({"RemoveReason": "via condor_rm (by user me)", "LastJobStatus": 2}, Reason.KILLED, "condor_rm"),
        ({"LastJobStatus": 1}, Reason.KILLED, "removed"),
        ({"RemoveReason": OURS, "LastJobStatus": 1, "NumJobStarts": 1}, Reason.PREEMPTED, "evicted"),
        ({"RemoveReason": OURS, "LastJobStatus": 2}, Reason.MAXJOBDURATION, "wall time"),
        ({"RemoveReason": OURS, "LastJobStatus": 6}, Reason.ERROR, "PeriodicRemove"),
        ({"RemoveReason": OURS, "LastJobStatus": 5, "HoldReasonCode": 34}, Reason.MEMLIMIT, "hold"),
        (
            {"RemoveReason": OURS, "LastJobStatus": 5, "LastHoldReasonCode": 34, "LastHoldReason": "over 2048"},
            Reason.MEMLIMIT,
            "over 2048",
        ),
        (
            {"RemoveReason": "The system macro SYSTEM_PERIODIC_REMOVE expression 'ImageSize > 1' evaluated to TRUE"},
            Reason.MEMLIMIT,
            "ImageSize",
        ),
        ({"RemoveReason": "The system macro SYSTEM_PERIODIC_REMOVE expression 'x' is TRUE"}, Reason.ERROR, "SYSTEM"),
    ],
)
def test_it_was_removed(ad: dict[str, Any], reason: Reason, word: str) -> None:
    end = condor().recalled([ads({"JobStatus": 3, **ad})])["7.0"].end
    assert end is not None
    assert end.reason is reason
    assert word in end.message


def test_nothing_is_there() -> None:
    dialect = condor()
    for empty in (answer(), answer("[\n]\n"), answer(err="Error: No history file is defined\n", code=1)):
        assert dialect.seen([empty]) == dialect.recalled([empty]) == {}
        assert dialect.found(["o-1"], [empty, empty]) == {}


@pytest.mark.parametrize(
    "nonsense",
    [
        answer(err="-- Failed to fetch ads from: <127.0.0.1:9618> : login\nSECMAN:2007:Failed to end.", code=1),
        answer(err="-- Failed to fetch ads from: <127.0.0.1:9618> : login"),
        answer(err="Error: Can't find address of local schedd\n", code=1),
        answer("", "", 1),
        answer("<html>"),
        answer('[{"ClusterId": 1'),
        answer("[1]"),
        answer("1"),
    ],
)
def test_what_makes_no_sense_is_trouble(nonsense: Answer) -> None:
    dialect = condor()
    for parse in (dialect.seen, dialect.recalled, dialect.room):
        with pytest.raises(Trouble):
            parse([nonsense])
    with pytest.raises(Trouble):
        dialect.found(["o-1"], [answer("[]"), nonsense])


def test_questions_are_bounded() -> None:
    [command] = condor().recall(["7.0", "8.1", "7.3"], 0.0)
    text = command.argv[command.argv.index("-constraint") + 1]
    assert text == "(ClusterId == 7 && member(ProcId, {0, 3})) || (ClusterId == 8 && member(ProcId, {1}))"
    assert command.argv[command.argv.index("-limit") + 1] == "3"
    assert "-scanlimit" in command.argv
    [queue, history] = condor().search(["o-1", "o-2"], 0.0)
    assert queue.argv[-1] == 'member(OrchName, {"o-1", "o-2"})'
    assert history.argv[-1] == 'member(OrchName, {"o-1", "o-2"}) && ProcId == 0'
    answers = [ads({"OrchName": "o-1"}, {"OrchName": "other"}), ads({"ClusterId": 9, "OrchName": "o-2"})]
    assert condor().found(["o-1", "o-2", "o-3"], answers) == {"o-1": "7", "o-2": "9"}


# Ending, and what there is --------------------------------------------------------------------------------------------


def test_ending() -> None:
    [command] = condor().cancel(["7.0", "8.1"])
    assert command.argv == ["condor_rm", "7.0", "8.1"]
    said = "Job 7.0 marked for removal\nJob 8.1 already marked for removal\nJob 9.0 not found\n"
    condor().cancelled(answer(said, "Couldn't find/remove all jobs in cluster 9\n", 1))
    for line in ("Error: Can't find address of local schedd", "Permission denied to remove job 7.0"):
        with pytest.raises(Trouble):
            condor().cancelled(answer("Job 8.1 marked for removal\n", line, 1))


def test_what_there_is() -> None:
    slots = [
        {"TotalSlotCpus": 8, "TotalSlotMemory": 1000},
        {"TotalSlotCpus": 64, "TotalSlotMemory": 500, "TotalSlotGPUs": 4},
    ]
    assert condor().room([answer(json.dumps(slots))]) == Room(72.0, 64.0, 1000 * MIB, (Accelerator("gpu", 4),))
    assert condor().room([answer()]) == Room()
