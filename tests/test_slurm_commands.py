"""What Slurm is told and asked: commands, as argument lists."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from orch.adapters.batch.dialect import Answer, Command, Order, Refused, Room
from orch.adapters.slurm import partitions
from orch.adapters.slurm.dialect import Slurm
from orch.bus.events import Accelerator
from orch.errors import UserError

GOLDEN = Path(__file__).parent / "golden" / "slurm"
ORDER = Order(name="o-1234abcd-1-7", label="fib(3)", size=1, script="/store/o.sh", log="/store/{index}.log")
GIB = 1024**3


def answer(out: str, code: int = 0) -> Answer:
    return Answer(Command(["sinfo"]), code, out, "")


def surveyed(sinfo: str = (GOLDEN / "sinfo.txt").read_text(), **options: str) -> Slurm:
    """One that knows its partitions; options without their prefix."""
    slurm = Slurm({f"slurm-{name.replace('_', '-')}": value for name, value in options.items()}, {})
    slurm.room([answer(sinfo), answer((GOLDEN / "config.txt").read_text())])
    return slurm


def said(slurm: Slurm, **asked: object) -> list[str]:
    """What sbatch is told of an order."""
    return slurm.submit(msgspec.structs.replace(ORDER, **asked)).argv


def test_the_least_order() -> None:
    assert said(Slurm({}, {})) == [
        "sbatch",
        "--nodes=1",
        "--ntasks=1",
        "--cpus-per-task=1",
        "--comment=fib(3)",
        "--parsable",
        "--no-requeue",
        "--export-file=/dev/null",
        "--chdir=/",
        "--open-mode=append",
        "--input=/dev/null",
        "--job-name=o-1234abcd-1-7",
        "--output=/store/1.log",
        "/store/o.sh",
    ]


def test_what_a_job_asks_for() -> None:
    devices = (Accelerator("gpu", 2), Accelerator("gpu", 1, "a100"), Accelerator("fpga", 1))
    told = said(Slurm({}, {}), cores=4, memory=GIB + 1, walltime=61.0, accelerators=devices, queue="long", size=20)
    assert {
        "--cpus-per-task=4",
        "--mem=1025M",
        "--time=2",
        "--gres=gpu:2,gpu:a100:1,fpga:1",
        "--partition=long",
        "--array=1-20",
        "--output=/store/%a.log",
    } <= set(told)
    assert told[-1] == "/store/o.sh"


def test_settings_and_what_a_job_passes_through() -> None:
    slurm = Slurm(
        {
            "slurm-account": "lab",
            "slurm-qos": "low",
            "slurm-args": "--reservation='a b' -A other",
            "slurm-warning": "2m",
        },
        {},
    )
    told = said(slurm, backend=(("constraint", "ib"), ("qos", "high"), ("nosuch", "x")))
    assert told[1:4] == ["--reservation=a b", "-A", "other"]
    assert {"--constraint=ib", "--qos=high", "--signal=B:XCPU@120"} <= set(told)
    assert not [word for word in told if "lab" in word or "low" in word or "nosuch" in word]
    assert said(slurm, backend=(("signal", "B:USR1@5"),)).count("--signal=B:USR1@5") == 1


def test_unknown_keys_are_left_to_the_engine_or_refused() -> None:
    assert "nosuch" not in Slurm.backend_keys
    assert "constraint" in Slurm.backend_keys
    with pytest.raises(Refused, match="sbatch has no option nosuch"):
        said(Slurm({"batch-strict": "true"}, {}), backend=(("nosuch", "x"),))
    with pytest.raises(Refused, match="in memory is said by the job itself"):
        said(Slurm({}, {}), backend=(("mem", "1G"),))


def test_a_mistake_in_the_arguments_is_the_users() -> None:
    with pytest.raises(UserError, match="slurm-args: '--mem=1G'"):
        Slurm({"slurm-args": "--mem=1G"}, {}).check()


def test_names_and_paths_with_anything_in_them() -> None:
    told = said(Slurm({}, {}), label='a\n"b"\t|é\x00%j' + "x" * 300, log="/s p/50%/é{index}.log", size=2)
    assert "--output=/s p/50%%/é%a.log" in told
    comment = next(word for word in told if word.startswith("--comment="))
    assert comment.startswith('--comment=a "b" |é %jx')
    assert len(comment) == 210
    assert "--output=/dev/null" in said(Slurm({}, {}), log="/a\\b/{index}")  # no pattern is looked at in such a path


def test_preemptible_jobs_go_elsewhere() -> None:
    slurm = Slurm({"slurm-preemptible-partition": "spare", "slurm-preemptible-qos": "cheap", "slurm-qos": "dear"}, {})
    assert {"--partition=spare", "--qos=cheap"} <= set(said(slurm, preemptible=True))
    assert "--qos=dear" in said(slurm)
    assert not [word for word in said(slurm) if "spare" in word]


MANY = """\
short*|up|2:00:00|8|16000|(null)|10|4
long|up|7-00:00:00|8|16000|(null)|10|4
big|up|7-00:00:00|64|512000+|(null)|10|2
slow|up|30-00:00:00|8|16000|(null)|5|2
gpu|up|3-00:00:00|16|64000|gpu:a100:4(S:0-1),shard:8|20|2
gpu|up|3-00:00:00|16|64000|gpu:v100:2|20|1
old|up|3-00:00:00|16|64000|gpu:k80:8|1|1
down|drain|infinite|999|999999|(null)|1|9
"""


@pytest.mark.parametrize(
    ("asked", "partition"),
    [
        ({}, ""),
        ({"walltime": 7200.0}, ""),
        ({"walltime": 7260.0}, ""),  # but for the worker's margin
        ({"walltime": 7261.0}, "slow"),  # of the lowest tier
        ({"walltime": 7261.0, "cores": 16}, "big"),  # and not where the devices are
        ({"cores": 32}, "big"),
        ({"memory": 100 * GIB}, "big"),
        ({"accelerators": (Accelerator("gpu", 1),)}, "old"),
        ({"accelerators": (Accelerator("gpu", 1, "v100"),)}, "gpu"),
        ({"accelerators": (Accelerator("gpu", 4, "a100"),), "walltime": 100.0}, "gpu"),
    ],
)
def test_the_cheapest_partition_that_fits(asked: dict[str, object], partition: str) -> None:
    told = said(surveyed(MANY), **asked)
    assert [word for word in told if word.startswith("--partition")] == [f"--partition={partition}"] * bool(partition)


def test_where_none_fits_it_is_said_what_there_is() -> None:
    with pytest.raises(Refused, match=r"big \(64 cores, 512000 MiB, 10080 min\)"):
        said(surveyed(MANY), cores=65)


@pytest.mark.parametrize("options", [{"partition": "mine"}, {"args": "-p mine"}, {"args": "--partition=mine"}])
def test_who_names_a_partition_gets_it(options: dict[str, str]) -> None:
    told = " ".join(said(surveyed(MANY, **options), cores=65))
    assert told.count("mine") == 1
    assert told.count(" -p ") + told.count(" --partition=") == 1


def test_the_sites_variable_names_one_too() -> None:
    slurm = Slurm({}, {"SBATCH_PARTITION": "mine"})
    assert "--partition=mine" in said(slurm)
    assert "--partition=other" in said(slurm, queue="other")


def test_the_margin_is_given_up_where_the_partition_leaves_no_room_for_it() -> None:
    slurm = surveyed(MANY)
    assert "--time=120" in said(slurm, walltime=7260.0)
    assert "--time=121" in said(slurm, walltime=7260.0, queue="long")
    assert "--time=180" in said(slurm, walltime=10800.0, queue="short")  # Slurm says what it thinks of that


def test_what_there_is() -> None:
    slurm = surveyed()
    assert slurm.most_tasks == 10000
    room = partitions.room(partitions.read(MANY))
    assert room == Room(
        cores=8991.0,
        node_cores=999.0,
        node_memory=999999 * 1024**2,
        accelerators=(
            Accelerator("gpu", 4, "a100"),
            Accelerator("gpu", 8, "k80"),
            Accelerator("gpu", 2, "v100"),
            Accelerator("shard", 8),
        ),
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("infinite", 0), ("5:00", 300), ("1:00:00", 3600), ("2-00:00:00", 172800), ("1-12", 129600), ("90", 5400)],
)
def test_time_limits(text: str, seconds: float) -> None:
    assert partitions.seconds(text) == seconds


def test_the_size_of_arrays() -> None:
    assert partitions.most_tasks("MaxArraySize            = 1001\n") == 1000
    assert partitions.most_tasks("MaxArraySize = 1001\nSchedulerParameters = a=1,max_array_tasks=50,b\n") == 50
    assert partitions.most_tasks("") is None


def test_questions_are_bounded_and_free_of_the_users_formats() -> None:
    slurm = Slurm({}, {"SQUEUE_FORMAT2": "x", "SLURM_JOB_ID": "1", "HOME": "/home/me"})
    (look,) = slurm.look(["1", "2"])
    assert look.argv[:6] == ["squeue", "--noheader", "--me", "--array", "--states=all", "--jobs=1,2"]
    assert look.env == {"SQUEUE_FORMAT2": None, "SLURM_JOB_ID": None, "SLURM_BITSTR_LEN": "0"}
    (recall,) = slurm.recall(["7_1", "7_2", "8"], since=1_700_003_600.0)
    assert {"--jobs=7,8", "--starttime=2023-11-14T22:13:20"} <= set(recall.argv)
    assert recall.env["TZ"] == "UTC"
    queue, records = slurm.search(["o-1", "o-2"], since=1_700_003_600.0)
    assert "--name=o-1,o-2" in queue.argv
    assert {"--name=o-1,o-2", "--starttime=2023-11-14T22:13:20"} <= set(records.argv)


def test_ends_are_asked_for_together() -> None:
    assert [command.argv for command in Slurm({}, {}).cancel(["7_1", "7_2", "9"])] == [["scancel", "9", "7_[1-2]"]]
    assert Slurm({}, {}).task("7", 1, 1) == "7"
    assert Slurm({}, {}).task("7", 1, 2) == "7_1"
