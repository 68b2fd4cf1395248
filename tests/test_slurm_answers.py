"""What Slurm answers, and what it means: transcripts of a real one (22.05, as tests/real starts it), and the manual."""

from __future__ import annotations

from pathlib import Path

import pytest

from orch.adapters.batch.dialect import Answer, Command, End, NotTaken, Order, Refused, Seen, Stage, Trouble
from orch.adapters.slurm import ids, states
from orch.adapters.slurm.dialect import Slurm
from orch.attempt import Reason

GOLDEN = Path(__file__).parent / "golden" / "slurm"
ORDER = Order(name="o-1234abcd-1-7", label="", size=1, script="/s", log="/l")

POLICY = (
    "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy "
    "(job submit limit, user's size and/or time limits)"
)


def answer(out: str = "", err: str = "", code: int = 0, program: str = "squeue") -> Answer:
    return Answer(Command([program]), code, out, err)


def golden(name: str) -> Answer:
    return answer((GOLDEN / f"{name}.txt").read_text())


def slurm() -> Slurm:
    return Slurm({}, {})


def test_squeue_tells_of_what_waits_runs_and_has_ended() -> None:
    seen = slurm().seen([golden("squeue")])
    assert {task: (each.stage, each.word, each.host) for task, each in seen.items()} == {
        "56": (Stage.RUNNING, "RUNNING", "n1"),
        "57": (Stage.OVER, "OUT_OF_MEMORY", "n1"),
        "58": (Stage.OVER, "FAILED", "n1"),
        "59": (Stage.OVER, "FAILED", "n1"),
        "60": (Stage.HELD, "PENDING", ""),
        "61": (Stage.ENDING, "COMPLETING", "n2"),
        "62": (Stage.OVER, "COMPLETED", "n2"),
        "63": (Stage.HELD, "PENDING", ""),
        "64": (Stage.HELD, "PENDING", ""),
        "65": (Stage.OVER, "FAILED", "n2"),
        "66": (Stage.QUEUED, "PENDING", ""),
        "67": (Stage.RUNNING, "RUNNING", "n3"),
        "68": (Stage.ENDING, "COMPLETING", "n2"),
        "70": (Stage.QUEUED, "PENDING", ""),
        **{f"71_{index}": (Stage.QUEUED, "PENDING", "") for index in range(1, 6)},
    }
    assert seen["63"].why == "PartitionTimeLimit: it asks for more time than the partition gives"
    assert seen["64"].why == "DependencyNeverSatisfied: what it waits for has failed"
    assert seen["56"].why == ""


def test_both_squeue_and_sacct_tell_how_it_ended() -> None:
    later, recorded = slurm().seen([golden("squeue-later")]), slurm().recalled([golden("sacct")])
    for of in (later, recorded):
        ends = {task: each.end for task, each in of.items() if each.end is not None}
        assert {
            task: (end.reason, end.exit_code, end.signal) for task, end in ends.items() if task != "56"
        }.items() >= {
            "57": (Reason.MEMLIMIT, None, 0),
            "58": (Reason.FAILED, None, 9),
            "59": (Reason.FAILED, 3, 0),
            "61": (Reason.KILLED, None, 0),
            "62": (Reason.FINISHED, 0, 0),
            "65": (Reason.ERROR, None, 0),
            "67": (Reason.LOST, None, 0),
            "68": (Reason.PREEMPTED, None, 0),
            "71_1": (Reason.FINISHED, 0, 0),
        }.items()
    assert recorded["56"].end == End(Reason.MAXJOBDURATION, message="Slurm: TIMEOUT")
    assert recorded["61"].end == End(Reason.KILLED, message="Slurm: CANCELLED by 0")


def test_a_line_of_its_own_counts_more_than_one_for_many() -> None:
    recorded = slurm().recalled([golden("sacct")])  # it has 71_1 and 71_[1-5]
    assert [recorded[f"71_{index}"].word for index in range(1, 6)] == ["COMPLETED"] * 3 + ["CANCELLED"] * 2
    turned = "\n".join(reversed((GOLDEN / "sacct.txt").read_text().splitlines()))
    assert slurm().recalled([answer(turned)]) == recorded


def test_accounting_is_not_believed_about_what_is_alive() -> None:
    assert "60" not in slurm().recalled([golden("sacct")])
    assert slurm().recalled([answer("7|RUNNING|0:0|n1|None\n")]) == {}


@pytest.mark.parametrize("word", ["REQUEUED", "CONFIGURING", "REQUEUE_FED"])
def test_what_will_begin_again_is_queued(word: str) -> None:
    assert states.seen(word, 0, 0, "None", "n1") == Seen(Stage.QUEUED, word, host="n1")


@pytest.mark.parametrize("word", ["REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"])
def test_what_is_held_is_held(word: str) -> None:
    assert states.seen(word, 0, 0, "None", "").stage is Stage.HELD


@pytest.mark.parametrize(
    ("reason", "held"),
    [
        ("JobHeldAdmin", True),
        ("QOSMaxWallDurationPerJobLimit", True),
        ("AssocMaxCpuPerJobLimit", True),
        ("AssocMaxMemPerNode", True),
        ("QOSMaxJobsPerUserLimit", False),
        ("AssocMaxJobsLimit", False),
        ("AssocGrpCpuLimit", False),
        ("QOSGrpNodeLimit", False),
        ("Licenses", False),
        ("ANewReason", False),
    ],
)
def test_which_reasons_never_pass(reason: str, held: bool) -> None:
    seen = states.seen("PENDING", 0, 0, reason, "n/a")
    assert (seen.stage is Stage.HELD) == held
    assert seen.why.startswith(reason)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("BOOT_FAIL", Reason.LOST),
        ("DEADLINE", Reason.MAXJOBDURATION),
        ("TIMEOUT", Reason.MAXJOBDURATION),
        ("CANCELLED by 1000", Reason.KILLED),
        ("CANCELLED+", Reason.KILLED),
    ],
)
def test_ends_of_the_manual(word: str, reason: Reason) -> None:
    seen = states.seen(word, 0, 0, "None", "")
    assert seen.end == End(reason, message=f"Slurm: {word}")


def test_an_unknown_word_is_strange_and_no_end() -> None:
    assert slurm().seen([answer(line("7", "DREAMING", "0", "n1", "None"))]) == {
        "7": Seen(Stage.STRANGE, "DREAMING", host="n1")
    }


def test_out_of_memory_without_cgroups_cannot_be_told_apart_but_is_hinted_at() -> None:
    end = states.seen("FAILED", 0, 9, "JobLaunchFailure", "n1").end
    assert end is not None
    assert (end.reason, end.signal) == (Reason.FAILED, 9)
    assert "too much memory" in end.message


def line(*fields: str) -> str:
    widths = (32, 24, 12, 72, 64)
    return "".join(field.ljust(width) for field, width in zip(fields, widths, strict=True)) + "\n"


def test_an_id_that_is_not_known_any_more_is_absent_and_no_trouble() -> None:
    gone = answer(err="slurm_load_jobs error: Invalid job id specified\n", code=1)
    assert slurm().seen([gone]) == {}
    assert slurm().seen([gone, answer(line("7", "RUNNING", "0", "n1", "None"))])["7"].stage is Stage.RUNNING


@pytest.mark.parametrize(
    "wrong",
    [
        answer(err="slurm_load_jobs error: Unable to contact slurm controller (connect failure)", code=1),
        answer("<html>502 Bad Gateway</html>\n"),
        answer("Segmentation fault\n", code=139),
        answer(line("7", "RUNNING", "zero", "n1", "None")),
        answer(line("seven", "RUNNING", "0", "n1", "None")),
        answer("7\n"),
    ],
)
def test_no_answer_and_nonsense_are_trouble(wrong: Answer) -> None:
    with pytest.raises(Trouble):
        slurm().seen([wrong])


@pytest.mark.parametrize(
    "wrong",
    [
        answer(err="sacct: error: Problem talking to the database: Connection refused", code=1, program="sacct"),
        answer("7|RUNNING\n"),
        answer("7|COMPLETED|x|n1|None\n"),
    ],
)
def test_no_answer_and_nonsense_of_accounting_are_trouble(wrong: Answer) -> None:
    with pytest.raises(Trouble):
        slurm().recalled([wrong])
    if wrong.code:
        with pytest.raises(Trouble):
            slurm().found(["x"], [answer(), wrong])


def test_without_accounting_nothing_is_recalled() -> None:
    none = answer(err="Slurm accounting storage is disabled\n", code=1, program="sacct")
    assert slurm().recalled([none]) == {}
    assert slurm().found(["o-1"], [answer("7|o-1\n"), none]) == {"o-1": "7"}


def test_a_search_finds_the_last_of_a_name_in_either_place() -> None:
    queue, records = (
        answer("71|o-1\n71|o-1\n9|o-2\n"),
        answer("71_[1-5]|o-1\n72|o-1\n5|o-3\n6|other\n", program="sacct"),
    )
    assert slurm().found(["o-1", "o-2", "o-3", "o-4"], [queue, records]) == {"o-1": "72", "o-2": "9", "o-3": "5"}


@pytest.mark.parametrize(
    ("out", "job"),
    [("123\n", "123"), ("123;cluster\n", "123"), ("Welcome to 7 nodes!\n\n  42\n", "42"), ("1\n2;x\n", "2")],
)
def test_what_sbatch_calls_it(out: str, job: str) -> None:
    assert slurm().submitted(ORDER, answer(out, program="sbatch")) == job


@pytest.mark.parametrize(
    ("err", "code", "kind"),
    [
        ("sbatch: error: Batch job submission failed: Invalid partition name specified", 1, Refused),
        ("sbatch: error: Batch job submission failed: Requested node configuration is not available", 1, Refused),
        ("sbatch: error: Invalid --time specification", 255, Refused),
        ("sbatch: error: Batch job submission failed: Unspecified error", 1, Refused),
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)", 1,
         NotTaken),
        (f"sbatch: error: AssocMaxSubmitJobLimit\n{POLICY}", 1, NotTaken),
        (f"sbatch: error: QOSMaxCpuPerJobLimit\n{POLICY}", 1, Refused),
        (POLICY, 1, NotTaken),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", 1, Trouble),
        ("sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received", 1, Trouble),
        ("Killed", 137, Trouble),
        ("", 0, Trouble),
    ],
)  # fmt: skip
def test_what_it_means_if_sbatch_gives_no_id(err: str, code: int, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        slurm().submitted(ORDER, answer("hello\n", err, code, "sbatch"))
    assert type(caught.value) is kind


def test_scancel_of_what_is_gone_is_done() -> None:
    slurm().cancelled(answer(program="scancel"))
    gone = "scancel: error: Kill job error on job id 7: Invalid job id specified\n"
    slurm().cancelled(answer(err=gone, code=1, program="scancel"))
    slurm().cancelled(answer(err=gone.replace("Invalid job id specified", "Job/step already completing or completed")))
    for trouble in ("Unable to contact slurm controller (connect failure)", "Access/permission denied"):
        with pytest.raises(Trouble):
            slurm().cancelled(answer(err=gone + gone.replace("Invalid job id specified", trouble), code=1))
        with pytest.raises(Trouble):
            slurm().cancelled(answer(err=gone.replace("Invalid job id specified", trouble)))
    with pytest.raises(Trouble):
        slurm().cancelled(answer(err="Killed", code=137))


def test_names_for_many_tasks() -> None:
    assert ids.expand("7_[1-3,5,8-12:2%4]") == ["7_1", "7_2", "7_3", "7_5", "7_8", "7_10", "7_12"]
    assert ids.expand("7") == ["7"]
    assert ids.expand("7_3") == ["7_3"]
    assert ids.expand("7.batch") == ids.expand("7_[1-") == ids.expand("") == []
    tasks = ["7_5", "9", "7_1", "7_2", "7_3", "8_4", "7_2"]
    assert ids.together(tasks) == ["9", "7_[1-3,5]", "8_4"]
    assert sorted(task for name in ids.together(tasks) for task in ids.expand(name)) == sorted(set(tasks))
