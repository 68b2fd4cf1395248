"""What Grid Engine answers, and what it means: transcripts of a real one (8.1), and the manual."""

from __future__ import annotations

from pathlib import Path

import pytest

from orch.adapters.batch.dialect import Answer, Command, NotTaken, Order, Refused, Stage, Trouble
from orch.adapters.gridengine import queue, records
from orch.adapters.gridengine.dialect import GridEngine
from orch.attempt import Reason

GOLDEN = Path(__file__).parent / "golden" / "gridengine"
ORDER = Order(name="o-0a1b2c3d-1-7", label="", size=1, script="/s", log="/l")
QSTAT = ["qstat", "-xml", "-u", "user"]
DOWN = """error: commlib error: got select error (Connection refused)
error: unable to send message to qmaster using port 6444 on host "head": got send error
"""


def answer(out: str = "", err: str = "", code: int = 0, argv: list[str] | None = None) -> Answer:
    return Answer(Command(argv or QSTAT), code, out, err)


def golden(name: str, *argv: str) -> Answer:
    return answer((GOLDEN / name).read_text(), argv=list(argv) or QSTAT)


def engine() -> GridEngine:
    return GridEngine({}, {})


def test_qstat_tells_of_what_waits_and_runs() -> None:
    seen = engine().seen([golden("qstat.xml")])
    assert {task: (each.stage, each.word) for task, each in seen.items()} == {
        "69.1": (Stage.RUNNING, "r"),
        "69.2": (Stage.RUNNING, "s"),
        "69.3": (Stage.ENDING, "dr"),
        "69.4": (Stage.RUNNING, "r"),
        "71": (Stage.QUEUED, "qw"),
        "68.1": (Stage.QUEUED, "Eqw"),
        "68.2": (Stage.QUEUED, "Eqw"),
        **{f"69.{number}": (Stage.QUEUED, "qw") for number in range(5, 13)},
        "72": (Stage.QUEUED, "qw"),
        "70": (Stage.HELD, "hqw"),
        "73": (Stage.HELD, "hqw"),
    }
    assert seen["69.1"].host == "localhost"
    assert seen["69.2"].why == "suspended (qmod -sj)"


def test_what_is_in_error_is_asked_why_and_then_held() -> None:
    dialect = engine()
    jobs = ["68", "69", "70", "71", "99"]
    assert len(dialect.look(jobs)) == 1
    dialect.seen([golden("qstat.xml")])
    why, again = dialect.look(jobs)
    assert why.argv == ["qstat", "-j", "68,71,69,70"], "errors first, and nothing that is not orch's"
    seen = dialect.seen([golden("qstat_j.txt", *why.argv), golden("qstat.xml", *again.argv)])
    assert seen["68.2"].stage is Stage.HELD
    assert seen["68.2"].why == """can't open output file "/nowhere/at all/é.2.log": No such file or directory"""
    assert seen["71"].why.startswith("All queues dropped because of overload or full; queue instance")


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (['cannot run in PE "smp", it offers 0 slots'], 'cannot run in PE "smp", it offers 0 slots'),
        (
            ['queue instance "a@b" dropped because it is full', 'queue instance "a@c" dropped because it is disabled',
             "All queues dropped because of overload or full"],
            'queue instance "a@c" dropped because it is disabled; All queues dropped because of overload or full',
        ),
    ],
)  # fmt: skip
def test_the_most_telling_obstacle_comes_first(lines: list[str], why: str) -> None:
    text = "job_number:                 7\nscheduling info:            " + ("\n" + " " * 28).join(lines) + "\n"
    assert queue.explained(text) == {"7": why}


def test_what_cannot_be_explained_is_held_all_the_same() -> None:
    dialect = engine()
    dialect.seen([golden("qstat.xml")])
    why, again = dialect.look(["68"])
    seen = dialect.seen([answer("", DOWN, 1, why.argv), golden("qstat.xml", *again.argv)])
    assert seen["68.1"].stage is Stage.HELD
    assert "qmod -cj" in seen["68.1"].why


@pytest.mark.parametrize(
    ("state", "stage"),
    [
        ("qw", Stage.QUEUED), ("Rq", Stage.QUEUED), ("hqw", Stage.HELD), ("hRwq", Stage.HELD), ("t", Stage.RUNNING),
        ("r", Stage.RUNNING), ("hr", Stage.RUNNING), ("Rr", Stage.RUNNING), ("Rt", Stage.RUNNING),
        ("ts", Stage.RUNNING),
        ("S", Stage.RUNNING), ("tT", Stage.RUNNING), ("RtT", Stage.RUNNING), ("Eqw", Stage.QUEUED),
        ("EhRqw", Stage.QUEUED), ("dr", Stage.ENDING), ("dRt", Stage.ENDING), ("dT", Stage.ENDING),
        ("Y", Stage.STRANGE),
    ],
)  # fmt: skip
def test_each_state_of_the_manual(state: str, stage: Stage) -> None:
    """sge_status(5), the table of job states; one in error is held once it is known why."""
    line = queue.Line("1", "n", state, "", "")
    assert queue.seen(line, {}, "1").stage is stage
    if "E" in state:
        assert queue.seen(line, {"1": ""}, "1").stage is Stage.HELD


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("", []), ("7", [7]), ("1-3:1", [1, 2, 3]), ("5,6", [5, 6]), ("1-9:4,12-13:1", [1, 5, 9, 12, 13])],
)
def test_numbers_of_tasks(text: str, numbers: list[int]) -> None:
    assert list(queue.numbers(text)) == numbers


@pytest.mark.parametrize("text", ["", "<a>", "nonsense", "<a><job_list><state>r</state></job_list></a>"])
def test_nonsense_is_trouble(text: str) -> None:
    with pytest.raises(Trouble):
        engine().seen([answer(text)])


def test_names_that_xml_does_not_allow_are_no_harm() -> None:
    text = (GOLDEN / "qstat.xml").read_text().replace("<JB_name>held", "<JB_name>he\x01ld")
    assert "70" in engine().seen([answer(text)])


def test_a_qmaster_that_is_down_is_trouble() -> None:
    with pytest.raises(Trouble, match=r"qstat: .*Connection refused"):
        engine().seen([answer("", DOWN, 1)])


def test_qacct_tells_how_tasks_have_ended() -> None:
    seen = engine().recalled([golden("qacct.txt", "qacct")])
    found = {
        task: (each.end.reason, each.end.exit_code, each.end.signal)
        for task, each in seen.items()
        if each.end is not None
    }
    assert found == {
        "7.1": (Reason.ERROR, None, 0),  # opening input/output file
        "8.1": (Reason.FAILED, None, 9),
        "8.2": (Reason.FAILED, None, 9),  # qdel
        **{f"8.{number}": (Reason.FINISHED, 0, 0) for number in (3, 4, 5, 6)},
        "19": (Reason.FAILED, 3, 0),
        "20": (Reason.FAILED, 137, 0),  # its own exit code
        "21": (Reason.FAILED, None, 9),
        "23": (Reason.FINISHED, 0, 0),  # the second record: it was rescheduled
        "24": (Reason.FAILED, 100, 0),
        "25": (Reason.MAXJOBDURATION, None, 0),
        "32": (Reason.MEMLIMIT, None, 0),  # several processes, together beyond h_vmem
        "33": (Reason.MEMLIMIT, None, 0),
        "34": (Reason.FINISHED, 0, 0),
        "36.1": (Reason.MAXJOBDURATION, None, 0),  # it ended by itself when it was warned
        "36.2": (Reason.MAXJOBDURATION, None, 0),
    }


def record(failed: str, exit_status: str = "0", **more: str) -> dict[str, str]:
    return {"jobnumber": "1", "taskid": "undefined", "failed": failed, "exit_status": exit_status, **more}


@pytest.mark.parametrize(
    ("failed", "reason"),
    [
        ("1  : assumedly before job", Reason.LOST), ("8 : in prolog", Reason.ERROR), ("15 : in epilog", Reason.ERROR),
        ("19  : before writing exit_status", Reason.LOST), ("21 : in recognizing job", Reason.LOST),
        ("27 : searching requested shell", Reason.ERROR), ("28 : changing into working directory", Reason.ERROR),
        ("37 : qmaster enforced h_rt, h_cpu, or h_vmem limit", Reason.MAXJOBDURATION),
        ("100 : assumedly after job", Reason.LOST), ("4711 : of a later version", Reason.ERROR),
    ],
)  # fmt: skip
def test_values_of_failed(failed: str, reason: Reason) -> None:
    """sge_status(5), the table of "failed" values."""
    seen = records.seen(record(failed))
    assert seen is not None
    assert seen.end is not None
    assert seen.end.reason is reason
    assert failed.split(maxsplit=1)[0] in seen.end.message


@pytest.mark.parametrize("failed", ["24 : migrating", "25  : rescheduling"])
def test_what_goes_on_is_not_over(failed: str) -> None:
    assert records.seen(record(failed)) is None


def test_memory_counts_for_each_slot() -> None:
    asked = {"category": "-u me -l h_rt=30,h_vmem=80M -pe smp 2", "slots": "2", "maxvmem": "150.000M"}
    inside, beyond = (records.seen(record("37 : x", **(asked | more))) for more in ({}, {"maxvmem": "170.1MB"}))
    assert inside is not None
    assert inside.end is not None
    assert inside.end.reason is Reason.MAXJOBDURATION
    assert beyond is not None
    assert beyond.end is not None
    assert beyond.end.reason is Reason.MEMLIMIT


def test_records_of_others_jobs_do_not_count() -> None:
    """Numbers come again; orch's jobs have names of their own."""
    text = (GOLDEN / "qacct.txt").read_text().replace("+o-0a1b2c3d-1-1", "")
    assert engine().recalled([answer(text, argv=["qacct"])]) == {}


@pytest.mark.parametrize(
    "err",
    ["error: job id 31 not found\n", "no jobs running since startup\n", "/x/accounting: No such file or directory"],
)
def test_no_records_are_none(err: str) -> None:
    assert engine().recalled([answer("", err, 1, ["qacct", "-j", "31"])]) == {}


def test_a_submission_is_found_by_name() -> None:
    names = ["o-0a1b2c3d-1-1", "o-0a1b2c3d-1-2", "o-0a1b2c3d-1-9"]
    found = engine().found(names, [golden("qstat.xml"), answer("", "error: job name x not found", 1, ["qacct"])])
    assert found == {"o-0a1b2c3d-1-1": "69", "o-0a1b2c3d-1-2": "70"}
    [over] = engine().found(names[:1], [answer("<job_info/>"), golden("qacct.txt", "qacct")]).items()
    assert over == ("o-0a1b2c3d-1-1", "36")


def test_an_unsure_search_is_trouble() -> None:
    with pytest.raises(Trouble):
        engine().found(["o-1"], [answer("", DOWN, 1), answer("", "", 1, ["qacct"])])


@pytest.mark.parametrize(("out", "job"), [("14\n", "14"), ("14.1-3:1\n", "14"), ("warned by a jsv\n14\n", "14")])
def test_what_a_submission_is_called(out: str, job: str) -> None:
    assert engine().submitted(ORDER, answer(out, argv=["qsub"])) == job


@pytest.mark.parametrize(
    "why",
    [
        'Job was rejected because job requests unknown queue "nope.q"',
        'unknown resource "foo"',
        'job rejected: the requested parallel environment "mpi" does not exist',
        'job rejected: the requested project "nope" does not exist',
        "job rejected: you tried to submit a job with more than 75000 tasks",
        'denied: "1digit" is not a valid object name (cannot start with a digit)',
    ],
)
def test_refused(why: str) -> None:
    with pytest.raises(Refused) as caught:
        engine().submitted(ORDER, answer("", f"Unable to run job: {why}\nExiting.\n", 1, ["qsub"]))
    assert str(caught.value) == f"qsub: {why}"


def test_a_limit_of_jobs_passes() -> None:
    text = "Unable to run job: job rejected: Only 5 jobs are allowed per user (current job count: 5)\nExiting.\n"
    with pytest.raises(NotTaken):
        engine().submitted(ORDER, answer("", text, 25, ["qsub"]))


def test_nobody_has_heard_it() -> None:
    with pytest.raises(NotTaken):
        engine().submitted(ORDER, answer("", DOWN.replace("error: un", "Unable to run job: un"), 1, ["qsub"]))


@pytest.mark.parametrize(
    ("code", "out", "err"),
    [
        (1, "", "error: commlib error: got read error (closing connection)\nUnable to run job: unable to send message"),
        (1, "", "Unable to run job: Error reading answer list from qmaster\nExiting.\n"),
        (
            1,
            "",
            "Unable to run job: failed receiving gdi request response for mid=1 (got syncron message receive timeout)",
        ),
        (0, "", ""),
        (0, "nonsense", ""),
        (-9, "", ""),
    ],
)
def test_it_may_have_been_taken(code: int, out: str, err: str) -> None:
    with pytest.raises(Trouble) as caught:
        engine().submitted(ORDER, answer(out, err, code, ["qsub"]))
    assert not isinstance(caught.value, NotTaken)


@pytest.mark.parametrize(
    ("code", "out", "err"),
    [
        (0, "user has registered the job-array task 8.2 for deletion\n", ""),
        (0, "job 55 is already in deletion\n", ""),
        (1, "", 'denied: job "9999" does not exist\n'),
        (1, "user has deleted job 10\n", 'denied: job "9999" does not exist\n'),
        (1, 'job "55" task id range "20-22:1" comprises no tasks\n', ""),
    ],
)
def test_heard_that_it_is_to_end(code: int, out: str, err: str) -> None:
    engine().cancelled(answer(out, err, code, ["qdel"]))


@pytest.mark.parametrize("err", [DOWN, 'me - you do not have the necessary privileges to delete the job "5"\n', ""])
def test_not_heard(err: str) -> None:
    with pytest.raises(Trouble):
        engine().cancelled(answer("", err, 1, ["qdel"]))
