"""`orch status --graph` and `--jobs`, of logs that were written by hand."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from support.handmade import created, mixed, started, write_run

from orch.bus import events as ev
from orch.cli.graph import LONGEST, MOST_JOBS
from orch.cli.main import main


def related() -> list[ev.Event]:
    """Each relation once: 1 has the child 2, the follow-on 3 and the service 4; 5 takes its value; 6 was made by 1."""
    return [
        created("r"),
        ev.Added(job=1, kind="top", name='top("x\\n")', checkpoint=True),
        ev.Added(job=2, kind="child", parents=[1], form="command"),
        ev.Added(job=3, kind="last", follows=[1], form="group"),
        ev.Added(job=4, kind="server", form="service", serves=1),
        ev.Added(job=5, kind="user", needs=[1]),
        ev.Planned(count=5),
        *started(1),
        ev.Added(job=6, kind="made", by=1, attempt=1),
        ev.Succeeded(job=1, attempt=1, added=1),
    ]


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.strip() for line in capsys.readouterr().out.splitlines()]


def test_each_relation_has_a_style_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, "r", related())
    assert main(["status", "--graph", "dot", "--store", str(tmp_path)]) == 0
    found = lines(capsys)
    assert found[0] == 'digraph "r" {'
    assert found[-1] == "}"
    assert r'1 [label="top(\"x\\n\")\n1 succeeded" fillcolor=honeydew peripheries=2];' in found
    assert r'4 [label="server\n4 ready" fillcolor=lightyellow shape=cylinder style=filled];' in found
    assert [line for line in found if "->" in line] == [
        "1 -> 2 [style=dashed];",
        "1 -> 3 [style=dotted arrowhead=empty penwidth=2];",
        "1 -> 4 [arrowhead=diamond color=steelblue];",
        "1 -> 5;",
        "1 -> 6 [style=dashed];",
    ]


def test_by_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, "r", mixed())
    assert main(["status", "--graph", "dot", "--by", "kind", "--store", str(tmp_path)]) == 0
    found = lines(capsys)
    assert r'k0 [label="fetch\n2: 1 ready, 1 done" fillcolor=lightyellow];' in found
    assert r'k1 [label="align\n1 failed" fillcolor=salmon];' in found
    assert "k0 -> k2;" in found


def test_a_large_graph_is_drawn_by_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs: list[ev.Event] = [ev.Added(job=n, kind=f"k{n % 3}") for n in range(1, MOST_JOBS + 2)]
    last = ev.Added(job=MOST_JOBS + 2, kind="last", needs=list(range(1, MOST_JOBS + 2)))
    write_run(tmp_path, "r", [created("r"), *jobs, last, ev.Planned(count=MOST_JOBS + 2)])
    assert main(["status", "--graph", "dot", "--store", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert "2002 jobs: drawn by kind; --by job draws each of them" in said.err
    assert "k0 -> k3 [label=667];" in said.out
    assert main(["status", "--graph", "dot", "--by", "job", "--store", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("->") == MOST_JOBS + 1


def test_a_picture_needs_graphviz(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path, "r", mixed())
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["status", "--graph", "svg", "--store", str(tmp_path)]) == 2
    assert "needs graphviz, and there is no program `dot` in PATH" in capsys.readouterr().err


def test_a_picture_is_what_graphviz_makes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a graphviz of our own, that shows what it was given."""
    write_run(tmp_path, "r", mixed())
    program = tmp_path / "bin" / "dot"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "<svg $1>"; head -c 11\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    assert main(["status", "--graph", "svg", "--store", str(tmp_path)]) == 0
    assert capsys.readouterr().out == '<svg -Tsvg>\ndigraph "r"\n'
    program.write_text("#!/bin/sh\necho no fonts >&2; exit 3\n")
    assert main(["status", "--graph", "svg", "--store", str(tmp_path)]) == 2
    assert "failed: no fonts" in capsys.readouterr().err


def test_long_names_are_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = "word " * 100
    write_run(tmp_path, "r", [created("r"), ev.Added(job=1, kind=long, name=long), ev.Planned(count=1)])
    for by in ("job", "kind"):
        assert main(["status", "--graph", "dot", "--by", by, "--store", str(tmp_path)]) == 0
        (row,) = [line for line in lines(capsys) if "1 ready" in line]
        assert f'label="{long[: LONGEST - 1]}…\\n1 ready"' in row


@pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not installed here")
def test_graphviz_understands_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, "r", related())
    assert main(["status", "--graph", "svg", "--store", str(tmp_path)]) == 0
    assert "</svg>" in capsys.readouterr().out


def test_a_line_for_each_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs: list[ev.Event] = [ev.Added(job=n, kind=f"k{n}") for n in range(1, 201)]
    write_run(tmp_path, "big", [created("big"), *jobs, ev.Planned(count=200)])
    assert main(["status", "--jobs", "--store", str(tmp_path)]) == 0
    found = lines(capsys)
    assert len(found) == 201
    assert found[200].split()[:3] == ["200", "k200", "ready"]
    write_run(tmp_path, "r", mixed())
    assert main(["status", "r", "--jobs", "--state", "failed", "--store", str(tmp_path)]) == 0
    assert [line.split()[0] for line in lines(capsys)] == ["JOB", "2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--json", "--jobs"], "choose one"),
        (["--graph", "dot", "--state", "failed"], "--state does not go with it"),
        (["--by", "kind"], "--by goes with --graph"),
        (["--graph", "png"], "choose from dot, svg"),
    ],
)
def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    write_run(tmp_path, "r", mixed())
    assert main(["status", "--store", str(tmp_path), *arguments]) == 2
    assert message in capsys.readouterr().err
