"""`qstat -f` is read in all its forms: as it is wrapped, greeted, broken, and in JSON."""

from __future__ import annotations

import json

import pytest

from orch.adapters.pbs.qstat import amount, read

TEXT = """Welcome to the cluster: maintenance on Monday
Job Id: 123[].head.site.org
    Job_Name = align
    job_state = B
    array_indices_submitted = 1-2

Job Id: 123[1].head.site.org
    Job_Name = align
    job_state = R
    exec_host = node7/0*2+node8/1
    Resource_List.mem = 976563kb
    Resource_List.walltime = 00:01:40
    resources_used.walltime = 00:00:07
    Variable_List = PBS_O_HOME=/home/me,PBS_O_LANG=C,
\tPBS_O_PATH=/usr/local/bin:/us
\tr/bin,ORCHNAME=o-1a2b3c4d-1-1,
\tPBS_O_QUEUE=workq
    comment = Job run at Sat Nov 21 at 10:00 on (node7:ncpus=2)
    Submit_arguments = -N align

"""


def test_text() -> None:
    array, task = read(TEXT)
    assert array.is_array
    assert (array.number, array.task) == ("123", None)
    assert (task.number, task.task, task.is_array) == ("123", 1, False)
    assert task.host == "node7"
    assert task.variable("ORCHNAME") == "o-1a2b3c4d-1-1"
    assert task.variable("PBS_O_PATH") == "/usr/local/bin:/usr/bin"
    assert task.variable("PATH") == ""
    assert task.attributes["Submit_arguments"] == "-N align"


def test_a_variable_may_hold_anything_and_does_not_say_where_the_job_stands() -> None:
    text = TEXT.replace("PBS_O_LANG=C", "F=() {\n    job_state = F\n\n  echo\n}")
    task = read(text)[1]
    assert task.attributes["job_state"] == "R"
    assert task.attributes["comment"].startswith("Job run at")


def test_json() -> None:
    jobs = {
        "123[1].head": {
            "job_state": "F",
            "Exit_status": 271,
            "Resource_List": {"mem": "1gb", "ncpus": 2},
            "Variable_List": {"ORCHNAME": "o-1-1"},
            "exec_host": "node7/0",
        }
    }
    (task,) = read(json.dumps({"timestamp": 1, "pbs_version": "22.05", "Jobs": jobs}))
    assert task.attributes["Exit_status"] == "271"
    assert task.attributes["Resource_List.ncpus"] == "2"
    assert task.variable("ORCHNAME") == "o-1-1"
    assert task.host == "node7"


def test_json_may_hold_control_characters() -> None:
    (task,) = read('{"Jobs": {"1.head": {"job_state": "R", "comment": "a\tb\n"}}}')
    assert task.attributes["comment"] == "a\tb\n"


def test_nothing_is_no_nonsense() -> None:
    assert read("\n") == []
    assert read('{"timestamp": 1, "pbs_version": "22.05", "pbs_server": "head"}') == []


@pytest.mark.parametrize(
    "text",
    [
        "Segmentation fault",
        '{"Jobs": {"1.head": {"Variable_List": {"A": 005}}}}',
        r'{"Jobs": {"1.head": {"Variable_List": {"A": "it\'s"}}}}',
        '{"Jobs": {"1.head": {"job_state": "R"}',
        '{"Jobs": {"1.head": {}, "Jobs": {"2.head": {}}',
        '{"Jobs": ["1.head"]}',
    ],
)
def test_what_makes_no_sense_is_said(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("976563kb", 976563 * 1024),
        ("2gb", 2 << 30),
        ("12", 12),
        ("12b", 12),
        ("3kw", 3 * 8 * 1024),
        ("01:30:05", 5405),
        ("90", 90),
        ("1:00", 60),
        ("", 0),
        ("--", 0),
    ],
)
def test_amounts(text: str, value: float) -> None:
    assert amount(text) == value


def test_what_was_used_is_compared_with_what_was_asked_for() -> None:
    text = "Job Id: 1.h\n    Resource_List.mem = 1mb\n    resources_used.mem = {}\n    resources_used.walltime = 9"
    assert read(text.format("1024kb"))[0].exceeds("mem")
    assert not read(text.format("1023kb"))[0].exceeds("mem")
    assert not read(text.format("1gb"))[0].exceeds("walltime")
