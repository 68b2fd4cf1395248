"""PBS: what is asked, how answers are understood, what each state and exit status means."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from orch.adapters.batch.dialect import (
    Answer,
    Command,
    NotTaken,
    Order,
    Refused,
    Seen,
    Stage,
    Trouble,
)
from orch.adapters.pbs.dialect import ENDS, STAGES, Pbs
from orch.adapters.pbs.qsub import job_name
from orch.adapters.settings import PBS
from orch.attempt import Reason
from orch.bus.events import Accelerator

UNKNOWN = "qstat: Unknown Job Id 9.head\n"


def order(**fields: Any) -> Order:
    given = {"name": "o-1a2b3c4d-1-1", "label": "align", "size": 1, "script": "/s/x.sh", "log": "/s/{index}.log"}
    return Order(**{**given, **fields})


def dialect(**options: str) -> Pbs:
    return Pbs({name.replace("_", "-"): value for name, value in options.items()}, {})


def asked(argv: list[str], option: str) -> list[str]:
    return [argv[at + 1] for at, word in enumerate(argv) if word == option]


def answer(out: str = "", err: str = "", code: int = 0, command: Command | None = None) -> Answer:
    return Answer(command or Command(["qsub"]), code, out, err)


def looked(pbs: Pbs, jobs: dict[str, dict[str, Any]], ask: list[str], err: str = "", code: int = 0) -> dict[str, Seen]:
    (command,) = pbs.look(ask)
    if "json" in command.argv:
        out = json.dumps({"Jobs": jobs})
    else:
        out = "".join(
            f"Job Id: {job}\n" + "".join(f"    {name} = {value}\n" for name, value in attributes.items()) + "\n"
            for job, attributes in jobs.items()
        )
    return pbs.seen([answer(out, err, code, command)])


def ended(**attributes: Any) -> Any:
    seen = looked(dialect(), {"1.h": {"job_state": "F", **attributes}}, ["1.h"])["1.h"]
    assert seen.stage is Stage.OVER
    assert seen.end is not None
    assert seen.end.message.startswith("PBS: ")
    return seen.end


# Submitting -----------------------------------------------------------------------------------------------------


def test_one_task() -> None:
    argv = dialect().submit(order(cores=2, memory=10**9, walltime=99.5, priority=5000, queue="long")).argv
    assert asked(argv, "-l") == ["walltime=100", "select=1:ncpus=2:mem=976563kb"]
    assert asked(argv, "-q") == ["long"]
    assert asked(argv, "-p") == ["1023"]
    assert asked(argv, "-r") == ["n"]
    assert asked(argv, "-v") == ["ORCHNAME=o-1a2b3c4d-1-1"]
    assert "-J" not in argv  # an array of one is refused: qsub: illegal -J value


def test_an_array_has_to_be_one_that_may_be_run_again() -> None:
    argv = dialect().submit(order(size=3)).argv
    assert asked(argv, "-J") == ["1-3"]
    assert asked(argv, "-r") == ["y"]


def test_nothing_is_asked_for_that_was_not_said() -> None:
    argv = dialect().submit(order()).argv
    assert asked(argv, "-l") == ["select=1:ncpus=1"]
    assert not set(argv) & {"-q", "-A", "-P", "-p", "-W"}


def test_settings_and_what_a_job_passes_through() -> None:
    pbs = dialect(pbs_queue="short", pbs_account="a1", pbs_project="p1", pbs_reqs="ib=1", pbs_args="-l software=x -h")
    argv = pbs.submit(order()).argv
    assert argv[:4] == ["qsub", "-l", "software=x", "-h"]
    assert [asked(argv, option) for option in ("-q", "-A", "-P")] == [["short"], ["a1"], ["p1"]]
    assert "select=1:ncpus=1:ib=1" in argv
    backend = (("account", "a2"), ("place", "excl"), ("resources", "lic=2"), ("select", "big=true"), ("group", "g"))
    argv = pbs.submit(order(queue="long", backend=backend)).argv
    assert [asked(argv, option) for option in ("-q", "-A", "-W")] == [["long"], ["a2"], ["group_list=g"]]
    assert asked(argv, "-l") == ["software=x", "lic=2", "select=1:ncpus=1:ib=1:big=true", "place=excl"]


def test_unknown_keys_are_refused_if_strict() -> None:
    odd = order(backend=(("constraint", "ib"),))
    dialect().submit(odd)
    with pytest.raises(Refused, match="no constraint; it has account, group"):
        dialect(batch_strict="true").submit(odd)
    with pytest.raises(Refused, match="mem= belongs to the job"):
        dialect().submit(order(backend=(("select", "mem=1gb"),)))


def test_accelerators() -> None:
    pbs = dialect(pbs_gpu_model_resource="gpu_type")
    argv = pbs.submit(order(accelerators=(Accelerator(count=2, model="a100"),))).argv
    assert asked(argv, "-l") == ["select=1:ncpus=1:ngpus=2:gpu_type=a100"]
    with pytest.raises(Refused, match="pbs-gpu-model-resource"):
        dialect().submit(order(accelerators=(Accelerator(model="a100"),)))
    with pytest.raises(Refused, match="fpga"):
        dialect().submit(order(accelerators=(Accelerator(kind="fpga"),)))


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("pbs-args", "-l mem=4gb", "mem= belongs to the job"),
        ("pbs-args", "-lncpus=4,software=x", "ncpus= belongs"),
        ("pbs-args", "-l select=2", "select= is made by orch"),
        ("pbs-args", "-l walltime=1:00:00", "--default-walltime"),
        ("pbs-args", "-q long -J 1-3", "-J: orch gives this"),
        ("pbs-args", "-W block=true", "-W: orch gives this"),
        ("pbs-args", "script.sh", "no option of qsub"),
        ("pbs-args", "-A 'x", "No closing quotation"),
        ("pbs-reqs", "mem=4gb", "mem= belongs"),
        ("pbs-reqs", "a=1,b=2", "separated by"),
        ("pbs-array-size", "0", "whole number"),
    ],
)
def test_settings_that_are_refused(name: str, text: str, problem: str) -> None:
    (option,) = [each for each in PBS if each.name == name]
    assert problem in option.problem(text)


@pytest.mark.parametrize(
    "text", ["-l software=matlab -q long -A me -W group_list=x -V", "-Wumask=077 -h -l place=excl", ""]
)
def test_settings_that_are_taken(text: str) -> None:
    (option,) = [each for each in PBS if each.name == "pbs-args"]
    assert option.problem(text) == ""


def test_the_script_says_where_its_output_goes(tmp_path: Path) -> None:
    place = tmp_path / "it's $HOME; ü"
    place.mkdir()
    script = place / "x.sh"
    script.write_text('#!/bin/sh\necho "task $PBS_ARRAY_INDEX"\n')
    script.chmod(0o700)
    given = order(size=2, script=str(script), log=f"{place}/o.{{index}}.log")
    for env, name in (({"PBS_ARRAY_INDEX": "2"}, "o.2.log"), ({}, "o.1.log")):
        text = dialect().submit(given).stdin
        subprocess.run(["/bin/sh"], input=text, text=True, check=True, env=env)
        assert (place / name).read_text().startswith("task")


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("align", "align"),
        ("Größe: ü ß", "Gr_e"),
        ("42 answers", "o_42_answers"),
        ("", "o_"),
        ("a very long name indeed", "a_very_long_nam"),
    ],
)
def test_names_that_all_releases_take(label: str, name: str) -> None:
    assert job_name(label) == name.rstrip("_")


def test_ids() -> None:
    pbs = dialect()
    assert pbs.submitted(order(), answer("Notice: 3 days left\n123.head\n")) == "123.head"
    assert pbs.submitted(order(size=2), answer("123[].head.site.org\n")) == "123[].head.site.org"
    assert pbs.task("123[].head", 7, 9) == "123[7].head"
    assert pbs.task("123.head", 1, 1) == "123.head"
    with pytest.raises(Trouble):
        pbs.submitted(order(), answer("ok\n"))
    with pytest.raises(Trouble):
        pbs.submitted(order(size=2), answer("123.head\n"))


@pytest.mark.parametrize(
    ("kind", "code", "text"),
    [
        (Refused, 172, "qsub: Unknown queue"),
        (Refused, 188, "qsub: Job violates queue and/or server resource limits"),
        (Refused, 1, "qsub: cannot submit non-rerunable Array Job"),
        (Refused, 2, "qsub: illegal -N value"),
        (Refused, 1, "qsub: a project has to be given here (from the site's hook)"),
        (NotTaken, 194, "qsub: Maximum number of jobs already in queue"),
        (NotTaken, 1, "qsub: would exceed queue generic's per-user limit of jobs in 'Q' state"),
        (NotTaken, 170, "qsub: Queue is not enabled"),
        (NotTaken, 1, "qsub: Request not allowed: Server shutting down"),
        (Trouble, 111, "Connection refused\nqsub: cannot connect to server head (errno=111)"),
        (Trouble, 173, "qsub: Invalid credential"),
        (Trouble, 1, "qsub: End of File"),
        (Trouble, 255, "qsub: Failed to recv data from background qsub"),  # it may have been submitted
        (Trouble, 139, ""),
        (Trouble, 1, "some wrapper: no"),
    ],
)
def test_why_it_was_not_submitted(kind: type[Exception], code: int, text: str) -> None:
    with pytest.raises(kind) as caught:
        dialect().submitted(order(), answer("", text, code))
    assert type(caught.value) is kind


def test_an_array_that_is_too_large_is_told_with_the_setting() -> None:
    with pytest.raises(Refused, match="pbs-array-size: orch has made arrays of 1000"):
        dialect().submitted(order(), answer("", "qsub: Array job exceeds server or queue size limit", 1))
    assert dialect(pbs_array_size="10").most_tasks == 10


# Looking --------------------------------------------------------------------------------------------------------


def test_each_state_of_the_manual() -> None:
    assert "".join(sorted(STAGES)) == "BEFHMQRSTUWX"
    for word, stage in STAGES.items():
        assert looked(dialect(), {"1.h": {"job_state": word}}, ["1.h"])["1.h"].stage is stage
    assert looked(dialect(), {"1.h": {"job_state": "Z"}}, ["1.h"])["1.h"] == Seen(Stage.STRANGE, "Z")


def test_why_it_waits() -> None:
    why = "Not Running: Insufficient amount of resource: ncpus"
    seen = looked(dialect(), {"1.h": {"job_state": "Q", "comment": why}}, ["1.h"])["1.h"]
    assert (seen.stage, seen.why) == (Stage.QUEUED, why)
    held = {"job_state": "H", "Hold_Types": "s", "comment": "job held, too many failed attempts to run"}
    assert looked(dialect(), {"1.h": held}, ["1.h"])["1.h"].why == f"held (s), {held['comment']}"
    ran = {"job_state": "R", "comment": "Job run at …", "exec_host": "n1/0"}
    assert looked(dialect(), {"1.h": ran}, ["1.h"])["1.h"] == Seen(Stage.RUNNING, "R", host="n1")


def test_tasks_of_an_array_wait_for_what_the_array_waits_for() -> None:
    jobs = {
        "7[].head": {"job_state": "Q", "comment": "Not Running: Queue not started"},
        "7[1].head": {"job_state": "Q"},
        "7[2].head": {"job_state": "R", "exec_host": "n1/0"},
    }
    seen = looked(dialect(), jobs, ["7[].head"])
    assert seen == {
        "7[1].head": Seen(Stage.QUEUED, "Q", "Not Running: Queue not started"),
        "7[2].head": Seen(Stage.RUNNING, "R", host="n1"),
    }


def test_a_server_may_call_itself_otherwise_than_it_did() -> None:
    seen = looked(dialect(), {"7[1].head": {"job_state": "R"}}, ["7[].head.site.org"])
    assert list(seen) == ["7[1].head.site.org"]


def test_an_array_in_the_records_may_have_no_tasks_any_more() -> None:
    array = {"job_state": "F", "array_indices_submitted": "1-2"}
    seen = looked(dialect(), {"7[].head": array, "7[2].head": {"job_state": "X", "Exit_status": 0}}, ["7[].head"])
    assert seen["7[1].head"].end is not None
    assert seen["7[1].head"].end.reason is Reason.MISSING
    assert seen["7[2].head"].end is not None
    assert seen["7[2].head"].end.reason is Reason.FINISHED


def test_some_are_known_no_more() -> None:
    seen = looked(dialect(), {"1.h": {"job_state": "R"}}, ["1.h", "9.head"], UNKNOWN, 153)
    assert list(seen) == ["1.h"]
    assert looked(dialect(), {}, ["9.head"], UNKNOWN, 153) == {}
    assert looked(dialect(), {}, ["9.head"], "qstat: 9.head Job has finished, use -x or -H …\n", 35) == {}


@pytest.mark.parametrize(
    ("err", "code"),
    [
        ("qstat: cannot connect to server head (errno=15010)", 226),
        (UNKNOWN + "qstat: End of File", 153),
        ("", 1),
        ("Killed", 137),
    ],
)
def test_trouble_is_no_answer(err: str, code: int) -> None:
    with pytest.raises(Trouble):
        looked(dialect(), {"1.h": {"job_state": "R"}}, ["1.h", "9.head"], err, code)


@pytest.mark.parametrize(
    ("out", "err", "code"),
    [
        ('{"Jobs": {"1.h": {"Variable_List": {"A": 005}}}}', "", 0),
        ('{"Jobs": {"1.h": {"Variable_List": {"A": 005}}}}', UNKNOWN, 153),
        ('{"Jobs": {"1.h": {"job_state": "R"}}}', "", 0),  # and where is the other?
        ("", "qstat: invalid option -- 'F'\nusage: qstat …", 2),
    ],
)
def test_json_that_cannot_be_relied_on_is_not_asked_for_again(out: str, err: str, code: int) -> None:
    pbs = dialect()
    (command,) = pbs.look(["1.h", "9.head"])
    assert command.argv[:6] == ["qstat", "-x", "-f", "-t", "-F", "json"]
    with pytest.raises(Trouble, match="plain text from now on"):
        pbs.seen([answer(out, err, code, command)])
    assert pbs.look(["1.h"])[0].argv == ["qstat", "-x", "-f", "-t", "1.h"]
    seen = looked(pbs, {"1.h": {"job_state": "R", "exec_host": "n1/0"}}, ["1.h", "9.head"], UNKNOWN, 153)
    assert seen == {"1.h": Seen(Stage.RUNNING, "R", host="n1")}


def test_nonsense_is_no_reason_to_give_up_json() -> None:
    pbs = dialect()
    (command,) = pbs.look(["1.h"])
    with pytest.raises(Trouble, match="cannot be read"):
        pbs.seen([answer("Segmentation fault\n", "", 0, command)])
    assert "json" in pbs.look(["1.h"])[0].argv


# Ends -----------------------------------------------------------------------------------------------------------


def test_exit_codes_and_signals() -> None:
    assert (ended(Exit_status=0).reason, ended(Exit_status=0).exit_code) == (Reason.FINISHED, 0)
    assert (ended(Exit_status=3).reason, ended(Exit_status=3).exit_code) == (Reason.FAILED, 3)
    for status, signal in ((137, 9), (265, 9), (143, 15), (271, 15)):
        end = ended(Exit_status=status)
        assert (end.reason, end.exit_code, end.signal) == (Reason.FAILED, None, signal)


def test_each_exit_status_of_its_own() -> None:
    memory, time = ended(Exit_status=-27).reason, ended(Exit_status=-29).reason
    assert (memory, time) == (Reason.MEMLIMIT, Reason.MAXJOBDURATION)
    assert (ended(Exit_status=-1).reason, ended(Exit_status=-4).reason) == (Reason.ERROR, Reason.LOST)
    for code, (reason, what) in ENDS.items():
        end = ended(Exit_status=code)
        assert (end.reason, end.exit_code) == (reason, None)
        assert what in end.message
    assert ended(Exit_status=-99).reason is Reason.ERROR


def test_limits_show_in_what_was_used() -> None:
    asked_for = {"walltime": "00:01:00", "mem": "1gb"}
    used = {"walltime": "00:01:02", "mem": "100mb"}
    end = ended(Exit_status=271, Resource_List=asked_for, resources_used=used)
    assert (end.reason, end.signal) == (Reason.MAXJOBDURATION, 15)
    used = {"walltime": "00:00:02", "mem": "1048576kb"}
    assert ended(Exit_status=265, Resource_List=asked_for, resources_used=used).reason is Reason.MEMLIMIT
    # a worker that is told to end leaves its outcome, and exits in order
    assert ended(Exit_status=0, Resource_List=asked_for, resources_used=used).reason is Reason.MEMLIMIT
    used = {"walltime": "00:00:02", "mem": "1023mb"}
    assert ended(Exit_status=0, Resource_List=asked_for, resources_used=used).reason is Reason.FINISHED


def test_deleted() -> None:
    for status in (271, 0, 3):
        assert ended(Exit_status=status, substate=91).reason is Reason.KILLED
    assert ended(substate=91).reason is Reason.KILLED
    assert ended(comment="Not Running: Node is in an ineligible state: down and terminated").reason is Reason.KILLED
    assert ended(Exit_status=271, comment="Job preempted by deletion", substate=91).reason is Reason.PREEMPTED


def test_it_is_over_and_nobody_knows_how() -> None:
    assert ended().reason is Reason.MISSING


def test_started_again_and_left() -> None:
    assert ended(Exit_status=0, run_count=2).reason is Reason.LOST
    assert ended(Exit_status=0, run_count=1).reason is Reason.FINISHED
    assert ended(Exit_status=3, run_count=2).reason is Reason.FAILED


# Finding, ending, surveying -------------------------------------------------------------------------------------


def test_search() -> None:
    pbs = dialect()
    (command,) = pbs.search(["o-1-1", "o-1-2", "o-1-3"], 1.7e9)
    assert "-tc.ge.2023111" in command.argv[2]
    text = "Job Id: {}\n    Job_Name = x\n    Variable_List = PBS_O_HOME=/h,ORCHNAME={},B=1\n\n"
    out = text.format("5[].h", "o-1-1") + text.format("6.h", "o-1-2") + text.format("7.h", "o-9-9")
    assert pbs.found(["o-1-1", "o-1-2", "o-1-3"], [answer(out)]) == {"o-1-1": "5[].h", "o-1-2": "6.h"}
    assert pbs.found(["o-1-1"], [answer("")]) == {}
    assert pbs.found(["o-1-1"], [answer("", UNKNOWN, 123)]) == {}
    with pytest.raises(Trouble):
        pbs.found(["o-1-1"], [answer("", "qselect: cannot connect to server head", 111)])


def test_cancel() -> None:
    pbs = dialect()
    assert [command.argv for command in pbs.cancel(["7[1].h", "8.h"])] == [["qdel", "7[1].h", "8.h"]]
    assert list(pbs.cancel([])) == []
    pbs.cancelled(answer())
    pbs.cancelled(answer("", "qdel: Unknown Job Id 8.h", 153))
    pbs.cancelled(answer("", "qdel: Job has finished 8.h\nqdel: Request invalid for state of job 9.h", 35))
    with pytest.raises(Trouble):
        pbs.cancelled(answer("", "qdel: Unknown Job Id 8.h\nqdel: Server could not connect to MOM 9.h", 205))


NODES = """n1
     Mom = n1.site
     state = free
     resources_available.host = n1
     resources_available.mem = 8gb
     resources_available.ncpus = 4
n1[0]
     Mom = n1.site
     resources_available.host = n1
     resources_available.mem = 2gb
     resources_available.ncpus = 4
     resources_available.ngpus = 2

n2
     resources_available.host = n2
     resources_available.mem = 4194304kb
     resources_available.ncpus = 6
"""


def test_room() -> None:
    room = dialect().room([answer(NODES)])
    assert (room.cores, room.node_cores, room.node_memory) == (14, 8, 10 << 30)
    assert room.accelerators == (Accelerator(count=2),)
    with pytest.raises(Trouble):
        dialect().room([answer("", "pbsnodes: Unauthorized Request", 1)])
    with pytest.raises(Trouble):
        dialect().room([answer("")])
