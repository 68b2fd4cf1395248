"""LSF without LSF: what it is told, what is made of its answers, which are as in the manual and public transcripts."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from support.dialects import answer, order

from orch.adapters import lsf_answers
from orch.adapters.batch.dialect import Answer, End, NotTaken, Reason, Refused, Room, Seen, Stage, Trouble
from orch.adapters.lsf import LsfDialect, arguments
from orch.bus.events import Accelerator
from orch.errors import UserError

MIB = 1024**2


def lsf(**options: str) -> LsfDialect:
    return LsfDialect({name.replace("_", "-"): value for name, value in options.items()}, {})


def submitted_with(dialect: LsfDialect, **changes: Any) -> list[str]:
    return dialect.submit(order(**changes)).argv


def value(argv: list[str], flag: str) -> str:
    return argv[argv.index(flag) + 1]


def bjobs(*records: dict[str, str], before: str = "", err: str = "", code: int = 0) -> Answer:
    full = [{name.upper(): record.get(name, "") for name in lsf_answers.FIELDS} for record in records]
    text = json.dumps({"COMMAND": "bjobs", "JOBS": len(full), "RECORDS": full}, indent=2)
    return answer(before + text, err, code, ["bjobs", "-json"])


# What it is told ---------------------------------------------------------------------------------------------------


def test_one_task_is_a_plain_job() -> None:
    argv = submitted_with(lsf())
    assert value(argv, "-J") == "o-1"
    assert value(argv, "-o") == "/store/1.1.log"
    assert value(argv, "-Jd") == "a job"
    assert "-rn" in argv
    assert value(argv, "-env") == "none"
    assert not {"-M", "-W", "-q", "-R", "-P"} & {*argv}


def test_many_are_an_array() -> None:
    argv = submitted_with(lsf(), size=200)
    assert value(argv, "-J") == "o-1[1-200]"
    assert value(argv, "-o") == "/store/1.%I.log"


@pytest.mark.parametrize("path", ["/a b/x.sh", "/it's/x.sh", '/"q"/$HOME/`x`/\\n.sh', "/ünï/…/x.sh"])
def test_a_script_of_any_name_is_what_the_shell_runs(path: str) -> None:
    command = lsf().submit(order(script=path))
    shown = subprocess.run(
        ["/bin/sh", "-c", command.stdin.replace("exec ", "printf %s ")], capture_output=True, text=True, check=True
    )
    assert shown.stdout == path


def test_a_label_is_one_short_line() -> None:
    assert value(submitted_with(lsf(), label="a\nb\t" + "c" * 500), "-Jd") == ("a b " + "c" * 500)[:200]
    assert value(submitted_with(lsf(), label="\n"), "-Jd") == "orch"


def test_what_it_needs() -> None:
    argv = submitted_with(lsf(), cores=4, memory=1000 * MIB + 1, disk=5 * MIB, walltime=61, queue="long")
    assert value(argv, "-n") == "4"
    assert value(argv, "-M") == "1001MB"
    assert [argv[at + 1] for at, word in enumerate(argv) if word == "-R"] == [
        "rusage[mem=1001MB:tmp=5MB]",
        "span[hosts=1]",
    ]
    assert value(argv, "-W") == "2"
    assert value(argv, "-q") == "long"


def test_memory_in_the_unit_of_the_site() -> None:
    argv = submitted_with(lsf(lsf_memory_unit="GB"), memory=1025 * MIB, disk=MIB)
    assert value(argv, "-M") == "2"
    assert value(argv, "-R") == "rusage[mem=2:tmp=1]"
    assert value(submitted_with(lsf(lsf_memory_unit="KB"), memory=MIB), "-M") == "1024"


def test_memory_reserved_for_each_core() -> None:
    argv = submitted_with(lsf(lsf_memory_per="core"), memory=1000 * MIB, cores=4)
    assert value(argv, "-M") == "1000MB", "the limit is for the job"
    assert value(argv, "-R") == "rusage[mem=250MB]"


def test_what_the_site_says_of_itself_counts_unless_a_setting_does() -> None:
    parameters = answer("  RESOURCE_RESERVE_PER_TASK = Y\n  MAX_JOB_ARRAY_SIZE = 500\n", argv=["bparams", "-a"])
    hosts = answer("HOST_NAME STATUS JL/U MAX NJOBS\nn1 ok - 8 0\n", argv=["bhosts", "-w"])
    dialect, set_by_hand = lsf(), lsf(lsf_memory_per="job")
    for each in (dialect, set_by_hand):
        each.room([hosts, parameters])
    assert value(submitted_with(dialect, memory=100 * MIB, cores=2), "-R") == "rusage[mem=50MB]"
    assert value(submitted_with(set_by_hand, memory=100 * MIB, cores=2), "-R") == "rusage[mem=100MB]"
    assert dialect.most_tasks == 500


def test_settings_arguments_and_the_job_say_each_thing_once() -> None:
    dialect = lsf(lsf_queue="q0", lsf_project="p0", lsf_args="-q q1 -x -R 'select[type==any]' -W 60 -env all")
    argv = submitted_with(dialect, backend=(("app", "py"), ("P", "p1")))
    assert [value(argv, flag) for flag in ("-q", "-P", "-app", "-W", "-env")] == ["q1", "p1", "py", "60", "all"]
    assert value(argv, "-R") == "select[type==any]"
    assert "-x" in argv
    assert len([word for word in argv if word.startswith("-")]) == len({word for word in argv if word.startswith("-")})
    assert value(submitted_with(dialect, queue="q2"), "-q") == "q2"
    assert value(submitted_with(dialect, walltime=600), "-W") == "10"


def test_gpus() -> None:
    argv = submitted_with(lsf(), accelerators=(Accelerator("gpu", 2, "TeslaV100"),))
    assert value(argv, "-gpu") == "num=2:gmodel=TeslaV100"
    with pytest.raises(Refused, match="fpga"):
        lsf().submit(order(accelerators=(Accelerator("fpga"),)))


@pytest.mark.parametrize(
    "text",
    [
        "-n 4",
        "-M 100",
        "-q a -R rusage[mem=5]",
        "-o /tmp/x",
        "-K",
        "-Is",
        "-J x",
        "job.sh",
        "-n4",
        "-M100",
        "-R'rusage[mem=5]'",
    ],
)
def test_arguments_that_are_for_orch_to_give(text: str) -> None:
    with pytest.raises(UserError, match="ORCH_LSF_ARGS"):
        lsf(lsf_args=text).check()


def test_other_arguments() -> None:
    lsf(lsf_args="-R 'select[model==X] span[ptile=1]' -U res#1 -app x").check()
    assert arguments("-m 'a b' -x -W60 -R'span[ptile=1]'") == [
        ("-m", "a b"),
        ("-x", ""),
        ("-W", "60"),
        ("-R", "span[ptile=1]"),
    ]
    with pytest.raises(UserError, match="quotation"):
        lsf(lsf_args="-P 'x").check()


def test_keys_that_it_does_not_know() -> None:
    backend = (("nice", "5"), ("sla", "gold"))
    argv = submitted_with(lsf(), backend=backend)
    assert value(argv, "-sla") == "gold"
    assert "5" not in argv
    with pytest.raises(Refused, match="nice"):
        lsf(batch_strict="true").submit(order(backend=backend))


def test_a_name_that_lsf_would_change() -> None:
    with pytest.raises(Refused, match="%"):
        lsf().submit(order(log="/store/100%Job/1.{index}.log"))


# What it says of a submission ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("out", "err"),
    [
        ("Job <123> is submitted to queue <normal>.\n", ""),
        ("Job <123> is submitted to default queue <normal>.\n", ""),
        ("Cannot connect to LSF. Please wait ...\nJob <123> is submitted to queue <q>.\n", ""),
        ("Job <123> is submitted to queue <q>.\n", "Warning: -R is ignored\n"),
    ],
)
def test_taken(out: str, err: str) -> None:
    assert lsf().submitted(order(), answer(out, err)) == "123"


@pytest.mark.parametrize(
    "err",
    [
        "x: No such queue. Job not submitted.",
        "Bad resource requirement syntax. Job not submitted.",
        "Cannot exceed queue's hard limit(s). Job not submitted.",
        "User cannot use the queue. Job not submitted.",
        "Request aborted by esub. Job not submitted.",
        "Job array index too large. Job not submitted.",
    ],
)
def test_never_taken(err: str) -> None:
    with pytest.raises(Refused, match="not submitted"):
        lsf().submitted(order(), answer(err=err, code=255))


@pytest.mark.parametrize(
    "err",
    [
        "Failed in an LSF library call: LIM is down; try later. Job not submitted.",
        "Failed in an LSF library call: Slave LIM configuration is not ready yet. Job not submitted.",
        "User <me>: Pending job threshold reached. Job not submitted.",
        "normal: Queue has been closed. Job not submitted.",
    ],
)
def test_not_taken_now(err: str) -> None:
    with pytest.raises(NotTaken):
        lsf().submitted(order(), answer(err=err, code=255))


@pytest.mark.parametrize(
    ("out", "err"),
    [
        ("", "Failed in an LSF library call: Failed in sending/receiving a message: error 0. Job not submitted."),
        ("", "Contacting batch daemon: Communication timeout. Job not submitted."),
        ("", ""),
        ("<html>502</html>", ""),
        ("Job <> is submitted", ""),
    ],
)
def test_perhaps_taken(out: str, err: str) -> None:
    with pytest.raises(Trouble) as caught:
        lsf().submitted(order(), answer(out, err, 255))
    assert not isinstance(caught.value, NotTaken)


# What it says of jobs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", lsf_answers.STATES)
def test_each_state(word: str) -> None:
    [(task, seen)] = lsf().seen([bjobs({"jobid": "7", "stat": word})]).items()
    assert task == "7"
    assert (seen.stage, seen.word) == (lsf_answers.STATES[word][0], word)
    assert (seen.end is not None) == (seen.stage is Stage.OVER)


def test_a_state_that_nobody_knows() -> None:
    assert lsf().seen([bjobs({"jobid": "7", "stat": "FROZEN"})]) == {"7": Seen(Stage.STRANGE, "FROZEN")}


@pytest.mark.parametrize(
    "record",
    [
        {"jobid": "7", "jobindex": "3", "job_name": "o-1[3]"},
        {"jobid": "7[3]", "jobindex": "3", "job_name": "o-1[3]"},
        {"jobid": "7[3]", "job_name": "o-1[3]"},
    ],
)
def test_a_task_of_an_array_has_one_name(record: dict[str, str]) -> None:
    dialect = lsf()
    assert [*dialect.seen([bjobs({**record, "stat": "RUN"})])] == [dialect.task("7", 3, 9)] == ["7[3]"]
    assert dialect.found(["o-1"], [bjobs({**record, "stat": "RUN"})]) == {"o-1": "7"}


def test_why_it_waits_and_where_it_runs() -> None:
    why = " Job's requirements not satisfied: 3 hosts;\n Not enough slots: 1 host; "
    waits = {"jobid": "1", "jobindex": "0", "stat": "PEND", "pend_reason": why, "exec_host": "-"}
    runs = {"jobid": "2", "jobindex": "0", "stat": "RUN", "pend_reason": "old", "exec_host": "4*n1"}
    found = lsf().seen([bjobs(waits, runs, {"jobid": "3", "stat": "RUN", "exec_host": "n2:n2:n2"})])
    assert found["1"] == Seen(
        Stage.QUEUED, "PEND", "Job's requirements not satisfied: 3 hosts; Not enough slots: 1 host;"
    )
    assert (found["2"], found["3"].host) == (Seen(Stage.RUNNING, "RUN", "", "n1"), "n2")


def end(code: str, why: str = "", state: str = "EXIT") -> End:
    record = {"jobid": "1", "stat": state, "exit_code": code, "exit_reason": why}
    found = lsf().seen([bjobs(record)])["1"].end
    assert found is not None
    return found


@pytest.mark.parametrize("keyword", lsf_answers.ENDS)
def test_each_reason(keyword: str) -> None:
    found = end("137", f"{keyword}: job killed for it")
    assert (found.reason, found.signal) == (lsf_answers.ENDS[keyword], 9)
    assert keyword in found.message


def test_ends_without_a_reason() -> None:
    assert end("", state="DONE") == End(Reason.FINISHED, 0, message="LSF: DONE")
    assert end("3") == End(Reason.FAILED, 3, message="LSF: EXIT: exit code 3")
    assert (end("139").reason, end("139").exit_code, end("139").signal) == (Reason.FAILED, None, 11)
    assert end("255").exit_code == 255
    assert end("").reason is Reason.KILLED, "it was pending"
    assert end("143", "TERM_EXTERNAL_SIGNAL: job killed by a signal external to LSF").reason is Reason.FAILED


def test_those_that_are_not_there_are_left_out() -> None:
    text = '{"JOBS":2,"RECORDS":[{"JOBID":"8","ERROR":"Job <8> is not found"},{"JOBID":"7","STAT":"RUN"}]}'
    assert [*lsf().seen([answer(text, "Job <8> is not found\n", 255, ["bjobs", "-json"])])] == ["7"]
    assert lsf().seen([answer("", "Job <8> is not found\n", 255, ["bjobs", "-json"])]) == {}
    assert lsf().seen([bjobs()]) == {}


def test_a_name_with_a_tab_in_it_is_no_reason_to_understand_nothing() -> None:
    text = '{"RECORDS":[{"JOBID":"7","STAT":"RUN","JOB_NAME":"a\tb"}]}'
    assert [*lsf().seen([answer(text, argv=["bjobs", "-json"])])] == ["7"]


def test_lines_that_ask_to_wait_stand_before_an_answer() -> None:
    wait = "Cannot connect to LSF. Please wait ...\n" * 3
    assert [*lsf().seen([bjobs({"jobid": "7", "stat": "RUN"}, before=wait, err=wait)])] == ["7"]


@pytest.mark.parametrize(
    "nonsense",
    [
        answer("", "", 0, ["bjobs", "-json"]),
        answer("", "Failed in an LSF library call: LIM is down; try later", 255, ["bjobs", "-json"]),
        answer("<html>", "", 0, ["bjobs", "-json"]),
        answer('{"RECORDS": [{"JOBID": "1"', "", 0, ["bjobs", "-json"]),
        answer('{"RECORDS": [{"USER": "me"}]}', "", 0, ["bjobs", "-json"]),
        answer('{"RECORDS": [1]}', "", 0, ["bjobs", "-json"]),
        answer('{"ROWS": []}', "", 0, ["bjobs", "-json"]),
        bjobs(err="LSF is down. Please wait ...", code=255),
        answer("", "LSF is down", 255, ["bjobs", "-noheader"]),
        answer("JOBID USER STAT\n7 me RUN\n", "", 0, ["bjobs", "-noheader"]),
    ],
)
def test_what_makes_no_sense_is_trouble(nonsense: Answer) -> None:
    dialect = lsf()
    with pytest.raises(Trouble):
        dialect.seen([nonsense])
    with pytest.raises(Trouble):
        dialect.found(["o-1"], [nonsense])


def test_an_old_lsf_is_asked_for_a_table() -> None:
    dialect = lsf()
    [command] = dialect.look(["7"])
    assert "-json" in command.argv
    with pytest.raises(Trouble, match="table"):
        dialect.seen([Answer(command, 255, "", "-json: Illegal option.\nUsage: bjobs …")])
    [command] = dialect.look(["7", "8", "9"])
    assert "-json" not in command.argv
    table = (
        "7^3^EXIT^137^4*n1^o-1[3]^TERM_MEMLIMIT: job killed after reaching LSF memory usage limit\n"
        "8^0^PEND^-^-^o-2^-\n6^0^EXIT^-^-^o-6^-\n"
    )
    found = dialect.seen([Answer(command, 255, table, "Job <9> is not found\n")])
    assert found["8"] == Seen(Stage.QUEUED, "PEND")
    assert found["6"].end == End(Reason.KILLED, message="LSF: EXIT: ended before it ran")
    assert found["7[3]"].end is not None
    assert (found["7[3]"].end.reason, found["7[3]"].host) == (Reason.MEMLIMIT, "n1")
    assert dialect.found(["o-1", "o-2", "o-3"], [Answer(command, 0, table, "")]) == {"o-1": "7", "o-2": "8"}
    assert dialect.found(["o-1"], [Answer(command, 255, "", "No job found\n")]) == {}


def test_one_question_for_many_names() -> None:
    [command] = lsf().search(["o-12ab34cd-1-7", "o-12ab34cd-1-12"], 0.0)
    assert value(command.argv, "-J") == "o-12ab34cd-1-*"
    others = bjobs({"jobid": "1", "stat": "RUN", "job_name": "o-12ab34cd-1-71"})
    assert lsf().found(["o-12ab34cd-1-7"], [others]) == {}


# What it remembers ----------------------------------------------------------------------------------------------------

STORIES = """
Job <101[2]>, Job Name <o-1[2]>, User <me>, Project <default>, Command <#!/bin/s
                     h;exec /a/very/long/path>
Mon May  6 22:50:01: Submitted from host <login>, to Queue <normal>, CWD </>;
Mon May  6 22:50:03: Dispatched 1 Task(s) on Host(s) <n7>, Allocated 1 Slot(s)
                     on Host(s) <n7>, Effective RES_REQ <select[type == local]>;
Mon May  6 22:58:03: Exited with exit code 140. The CPU time used is 41.3 second
                     s;
Mon May  6 22:58:03: Completed <exit>; TERM_RUNLIMIT: job killed after reaching
                      LSF run time limit.

Summary of time in seconds spent in various states by  Mon May  6 22:58:03
  PEND     PSUSP    RUN      USUSP    SSUSP    UNKWN    TOTAL
------------------------------------------------------------------------------

Job <102>, Job Name <o-2>, User <me>, Project <default>, Command <x>
Mon May  6 22:50:01: Submitted from host <login>, to Queue <normal>, CWD </>;
Mon May  6 22:50:03: [2] dispatched to 4 Hosts/Processors <n8> <n8> <n8> <n8>;
Mon May  6 22:58:03: Done successfully. The CPU time used is 0.1 seconds;
------------------------------------------------------------------------------

Job <103>, Job Name <o-3>, User <me>, Project <default>, Command <x>
Mon May  6 22:50:01: Submitted from host <login>, to Queue <normal>, CWD </>;
Mon May  6 22:50:03: Dispatched to <n8>;
Mon May  6 22:52:03: Exited with exit code 99. The CPU time used is 0.1 seconds;
Mon May  6 22:52:03: Pending: Requeued job is waiting for rescheduling;
------------------------------------------------------------------------------

Job <104>, Job Name <o-4>, User <me>, Project <default>, Command <x>
Mon May  6 22:50:01: Submitted from host <login>, to Queue <normal>, CWD </>;
Mon May  6 22:51:00: Signal <KILL> requested by user or administrator <me>;
Mon May  6 22:51:00: Exited. The CPU time used is 0.0 seconds;
Mon May  6 22:51:00: Completed <exit>; TERM_OWNER: job killed by owner.
"""


def test_the_stories_of_what_it_shows_no_more() -> None:
    dialect = lsf()
    [command] = dialect.recall(["101[2]", "102"], 0.0)
    assert command.argv == ["bhist", "-l", "-n", "0", "101[2]", "102"]
    found = dialect.recalled([answer(STORIES)])
    assert {task: seen.end.reason for task, seen in found.items() if seen.end} == {
        "101[2]": Reason.MAXJOBDURATION,
        "102": Reason.FINISHED,
        "104": Reason.KILLED,
    }
    assert (found["101[2]"].host, found["102"].host) == ("n7", "n8")
    assert found["101[2]"].end is not None
    assert found["101[2]"].end.message == "LSF: EXIT: TERM_RUNLIMIT: job killed after reaching LSF run time limit"


def test_nothing_is_remembered() -> None:
    assert lsf().recalled([answer(err="No matching job found\n", code=255)]) == {}
    with pytest.raises(Trouble):
        lsf().recalled([answer(err="lsb.events: cannot open", code=255)])
    with pytest.raises(Trouble):
        lsf().recalled([answer()])


# Ending, and what there is --------------------------------------------------------------------------------------------


def test_ending() -> None:
    [command] = lsf().cancel(["7[3]", "8"])
    assert command.argv == ["bkill", "7[3]", "8"]
    lsf().cancelled(
        answer(
            "Job <1> is being terminated\n", "Job <2>: Job has already finished\nJob <3>: No matching job found\n", 255
        )
    )
    for line in ("Job <1>: Failed in an LSF library call: LIM is down; try later", "Job <1>: User permission denied"):
        with pytest.raises(Trouble):
            lsf().cancelled(answer("Job <2> is being terminated\n", line, 255))


def test_what_there_is() -> None:
    hosts = answer(
        "HOST_NAME STATUS JL/U MAX NJOBS RUN SSUSP USUSP RSV\nn1 ok - 8 0 0 0 0 0\nn2 closed_Full - 64 64 64 0 0 0\n"
        "n3 unavail - 128 0 0 0 0 0\n",
        argv=["bhosts", "-w"],
    )
    memory = answer(
        "HOST_NAME type model cpuf ncpus maxmem maxswp server RESOURCES\nn1 X86_64 x 60.0 8 31.3G 4G Yes (mg)\n"
        "login X86_64 x 60.0 8 512G 4G No ()\nn4 UNKNOWN UNKNOWN_ 1.0 - - - Yes ()\n",
        argv=["lshosts", "-w"],
    )
    assert lsf().room([hosts, memory]) == Room(72.0, 64.0, int(31.3 * 1024**3))
    unlimited = answer("HOST_NAME STATUS JL/U MAX NJOBS\nn1 ok - - 0\nn2 ok - 8 0\n", argv=["bhosts", "-w"])
    assert lsf().room([unlimited]) == Room()
    with pytest.raises(Trouble):
        lsf().room([answer(err="LSF is down", code=255, argv=["bhosts", "-w"])])


def test_variables_of_the_user_do_not_change_answers() -> None:
    dialect = lsf()
    commands = [dialect.submit(order()), *dialect.look(["1"]), *dialect.cancel(["1"]), *dialect.survey()]
    for command in commands:
        assert command.env["BSUB_QUIET"] is None
        assert command.env["LSB_NTRIES"]
