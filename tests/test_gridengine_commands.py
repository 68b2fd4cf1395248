"""What Grid Engine is told and asked: commands, as argument lists."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from orch.adapters.batch.dialect import Answer, Command, Order, Refused, Room, Trouble
from orch.adapters.gridengine import answers, arguments
from orch.adapters.gridengine.dialect import GridEngine
from orch.bus.events import Accelerator
from orch.errors import UserError

GOLDEN = Path(__file__).parent / "golden" / "gridengine"
ORDER = Order(name="o-1234abcd-1-7", label="fib(3)", size=1, script="/st ore/é.sh", log="/st ore/{index}.log")
GIB = 1024**3


def answer(out: str, code: int = 0) -> Answer:
    return Answer(Command(["qconf"]), code, out, "error: denied" if code else "")


def surveyed(complexes: str = "", **options: str) -> GridEngine:
    """One that knows its site; options without their prefix. `complexes`: lines that replace those of that name."""
    text = (GOLDEN / "qconf_sc.txt").read_text()
    new = {line.split()[0] for line in complexes.splitlines()}
    kept = [line for line in text.splitlines() if not new & set(line.split()[:1])]
    dialect = GridEngine({f"gridengine-{name.replace('_', '-')}": value for name, value in options.items()}, {})
    dialect.room(
        [
            answer((GOLDEN / "qhost.xml").read_text()),
            answer("\n".join([*kept, complexes])),
            answer("smp\nmpi\n"),
            answer("", 1),
        ]
    )
    return dialect


def said(dialect: GridEngine, **asked: object) -> list[str]:
    """What qsub is told of an order."""
    return dialect.submit(msgspec.structs.replace(ORDER, **asked)).argv


def resources(argv: list[str]) -> list[str]:
    return [argv[at + 1] for at, word in enumerate(argv) if word == "-l"]


def counted(name: str, how: str) -> str:
    return f"{name}  {name}  MEMORY  <=  YES  {how}  0  0"


def test_the_least_order() -> None:
    assert said(GridEngine({}, {})) == [
        "qsub", "-terse", "-N", "fib_3+o-1234abcd-1-7", "-wd", "/", "-i", "/dev/null", "-j", "y",
        "-o", ":/st ore/{index}.log".replace("{index}", "$TASK_ID"), "-b", "y", "-shell", "n", "-r", "n", "-notify",
        "-sync", "n", "-now", "n", "/bin/sh", "/st ore/é.sh",
    ]  # fmt: skip


def test_an_array() -> None:
    argv = said(GridEngine({}, {}), size=500)
    assert argv[argv.index("-t") + 1] == "1-500"
    assert argv[argv.index("-o") + 1] == ":/st ore/$TASK_ID.log"


@pytest.mark.parametrize("log", ["/a,b/{index}.log", "/a$b/{index}.log"])
def test_a_log_that_qsub_cannot_name_is_opened_by_the_job(log: str) -> None:
    argv = said(GridEngine({}, {}), size=2, log=log)
    assert argv[argv.index("-o") + 1] == "/dev/null"
    assert argv[-6:-1] == [
        "/bin/sh", "-c", 'exec >>"$1$SGE_TASK_ID$2" 2>&1; exec /bin/sh "$0"', "/st ore/é.sh", log[:5]
    ]  # fmt: skip


def test_a_line_break_in_a_path_is_refused() -> None:
    with pytest.raises(Refused, match="line break"):
        said(GridEngine({}, {}), script="/a\nb.sh")


def test_cores_take_a_parallel_environment() -> None:
    argv = said(surveyed(pe="smp"), cores=4)
    assert argv[argv.index("-pe") : argv.index("-pe") + 3] == ["-pe", "smp", "4"]
    with pytest.raises(Refused, match=r"4 cores .* none is named: say --gridengine-pe NAME \(this site has smp, mpi\)"):
        said(surveyed(), cores=4)
    with pytest.raises(Refused, match="there is no 'openmp'"):
        said(surveyed(pe="openmp"), cores=4)
    assert "openmp" in said(GridEngine({"gridengine-pe": "openmp"}, {}), cores=4), (
        "before anybody has said what there is"
    )


@pytest.mark.parametrize(
    ("complexes", "chosen", "asked"),
    [
        ("", "", ["mem_free=1024M"]),  # nothing is counted: a hint
        (counted("h_vmem", "YES"), "", ["h_vmem=256M"]),
        (counted("h_vmem", "JOB"), "", ["h_vmem=1024M"]),
        (counted("m_mem_free", "YES"), "", ["m_mem_free=256M"]),
        ("", "h_vmem", ["h_vmem=256M"]),  # a limit is multiplied by slots, counted or not
        ("", "vf, h_vmem", ["vf=1024M", "h_vmem=256M"]),
    ],
)
def test_memory(complexes: str, chosen: str, asked: list[str]) -> None:
    dialect = surveyed(complexes, pe="smp", **({"memory_resource": chosen} if chosen else {}))
    assert resources(said(dialect, cores=4, memory=GIB)) == asked


def test_memory_at_a_site_that_does_not_tell() -> None:
    assert resources(said(GridEngine({}, {}), memory=GIB + 1)) == ["h_vmem=1025M"]


def test_time_disk_queue_project_and_priority() -> None:
    dialect = surveyed(disk_resource="tmpfree", queue="all.q", project="p1")
    argv = said(dialect, walltime=90.5, disk=2 * GIB, priority=-5000)
    assert resources(argv) == ["h_rt=91", "tmpfree=2048M"]
    assert argv[argv.index("-q") + 1] == "all.q"
    assert argv[argv.index("-P") + 1] == "p1"
    assert argv[argv.index("-p") + 1] == "-1023"
    argv = said(dialect, queue="long.q", priority=5)
    assert argv[argv.index("-q") + 1] == "long.q"
    assert "-p" not in argv


def test_devices() -> None:
    gpu = "gpu  gpu  INT  <=  YES  {}  0  0"
    assert resources(said(surveyed(gpu.format("YES")), accelerators=(Accelerator(count=2),))) == ["gpu=2"]
    each = surveyed(gpu.format("YES"), pe="smp")
    assert resources(said(each, cores=2, accelerators=(Accelerator(count=2),))) == ["gpu=1"]
    with pytest.raises(Refused, match="counted for each slot"):
        said(each, cores=2, accelerators=(Accelerator(count=1),))
    assert resources(said(surveyed(gpu.format("JOB"), pe="smp"), cores=2, accelerators=(Accelerator(),))) == ["gpu=1"]
    with pytest.raises(Refused, match="gridengine-gpu-resource"):
        said(surveyed(), accelerators=(Accelerator(),))
    with pytest.raises(Refused, match="how many GPUs"):
        said(surveyed(), accelerators=(Accelerator(model="a100"),))


def test_what_a_job_passes_through() -> None:
    argv = said(surveyed(), backend=(("hostname", "n1"), ("-P", "p2"), ("exclusive", "")))
    assert resources(argv) == ["hostname=n1", "exclusive"]
    assert argv[argv.index("-P") + 1] == "p2"
    keys = surveyed().backend_keys
    assert keys is not None
    assert {"hostname", "h", "-P", "-ac"} <= keys
    assert not {"-t", "-N", "-pe", "foo"} & keys
    assert GridEngine({}, {}).backend_keys is None


@pytest.mark.parametrize("key", ["h_rt", "mem_free", "slots", "-pe", "-N", "-t"])
def test_what_a_job_may_not_pass_through(key: str) -> None:
    with pytest.raises(Refused):
        said(surveyed(), backend=((key, "1"),))


def test_strict_sites() -> None:
    dialect = GridEngine({"batch-strict": "true"}, {})
    dialect.room(
        [
            answer((GOLDEN / "qhost.xml").read_text()),
            answer((GOLDEN / "qconf_sc.txt").read_text()),
            answer(""),
            answer(""),
        ]
    )
    with pytest.raises(Refused, match="has no colour"):
        dialect.submit(msgspec.structs.replace(ORDER, backend=(("colour", "red"),)))


def test_more_arguments() -> None:
    argv = said(GridEngine({"gridengine-args": "-l arch=lx-amd64 -ac 'a=b c' -m n -hard"}, {}))
    assert argv[1:8] == ["-l", "arch=lx-amd64", "-ac", "a=b c", "-m", "n", "-hard"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("-pe smp 4", "cores"), ("-l h_rt=5", "walltime"), ("-l arch=x,h_vmem=4G", "memory"), ("-t 1-5", "-t"),
        ("-N name", "-N"), ("-o /x", "-o"), ("-sync y", "-sync"), ("script.sh", "no option"), ("--foo", "no option"),
        ("-P", "no value"), ("-l slots=4", "cores"),
    ],
)  # fmt: skip
def test_more_arguments_that_are_refused(text: str, named: str) -> None:
    with pytest.raises(UserError, match=named):
        GridEngine({"gridengine-args": text, "gridengine-memory-resource": "h_vmem"}, {}).check()


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("count words", "count_words+o-1"), ("", "orch+o-1"), ("3 blind mice", "_3_blind_mice+o-1"),
        ("é/ü:@", "orch+o-1"), ("x" * 300, "x" * 60 + "+o-1"), ("a+b", "a_b+o-1"), ("-x", "x+o-1"),
    ],
)  # fmt: skip
def test_names_of_jobs(label: str, name: str) -> None:
    assert arguments.job_name(label, "o-1") == name
    assert arguments.order_of(name) == "o-1"


def test_one_question_for_all_that_is_there() -> None:
    [command] = GridEngine({}, {}).look([str(number) for number in range(5000)])
    assert command.argv[:3] == ["qstat", "-xml", "-u"]


def test_few_calls_for_what_has_ended() -> None:
    dialect = GridEngine({}, {})
    assert [each.argv[:3] for each in dialect.recall(["7.1", "7.2", "9"], 0.0)] == [
        ["qacct", "-j", "7"],
        ["qacct", "-j", "9"],
    ]
    [one] = dialect.recall([f"{number}.1" for number in range(1000)], 86400.0)
    assert one.argv[:4] == ["qacct", "-j", "-b", "197001020000.00"]
    assert one.env["TZ"] == "UTC"


def test_a_search_is_one_pattern() -> None:
    dialect = GridEngine({}, {})
    assert dialect.search(["o-12-1-7"], 0.0)[1].argv[2] == "*+o-12-1-7"
    assert dialect.search(["o-12-1-7", "o-12-1-8", "o-12-2-1"], 0.0)[1].argv[2] == "*+o-12-*"


def test_ending_many() -> None:
    assert answers.together(["12.1", "12.2", "12.3", "12.7", "13", "14.5"]) == ["12.1-3", "12.7", "13", "14.5"]
    commands = GridEngine({}, {}).cancel([f"{number}" for number in range(1200)])
    assert [len(each.argv) for each in commands] == [501, 501, 201]


def test_what_there_is() -> None:
    dialect = GridEngine({}, {})
    found = dialect.room([answer((GOLDEN / "qhost.xml").read_text()), answer("", 1), answer("", 1), answer("", 1)])
    assert found == Room(cores=4.0, node_cores=4.0, node_memory=int(23.5 * GIB))


def test_a_host_that_does_not_answer_may_be_larger() -> None:
    text = (GOLDEN / "qhost.xml").read_text().replace("23.5G", "-")
    assert GridEngine({}, {}).room([answer(text), answer("", 1), answer("", 1), answer("", 1)]).node_memory == 0


@pytest.mark.parametrize(
    "text", ["", "nonsense", "<qhost><host name='a'><queue><queuevalue name='slots'>x</queuevalue>"]
)
def test_nonsense_about_hosts_is_trouble(text: str) -> None:
    with pytest.raises(Trouble):
        GridEngine({}, {}).room([answer(text), answer("", 1), answer("", 1), answer("", 1)])


@pytest.mark.parametrize(
    ("said", "most"), [("max_aj_tasks   75000\n", 1000), ("max_aj_tasks 200\n", 200), ("max_aj_tasks 0", 1000)]
)
def test_how_large_arrays_may_be(said: str, most: int) -> None:
    dialect = GridEngine({}, {})
    assert dialect.most_tasks == 1000
    dialect.room([answer((GOLDEN / "qhost.xml").read_text()), answer("", 1), answer("", 1), answer(f"xterm x\n{said}")])
    assert dialect.most_tasks == most
