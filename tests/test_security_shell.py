"""No shell takes a user's text apart: what is given as an argument arrives byte for byte."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path

from support.command import orch
from support.sources import TOP, dotted, imported, mentions, modules

_SHELLS = {
    "os.system",
    "os.popen",
    "commands.getoutput",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "asyncio.create_subprocess_shell",
    "pty.spawn",
}
_STARTERS = (
    "subprocess.",
    "os.posix_spawn",
    "os.exec",
    "os.spawn",
    "asyncio.create_subprocess_exec",
    "anyio.run_process",
)


def test_no_module_uses_a_shell() -> None:
    found = [f"{path}:{line}: {name}" for path, tree in modules() for line, name in mentions(tree) if name in _SHELLS]
    assert not found


def calls() -> list[tuple[str, ast.Call]]:
    """All calls that start programs, by file and line."""
    found = []
    for path, tree in modules():
        names = imported(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                first, dot, rest = dotted(node.func).partition(".")
                if f"{names.get(first, first)}{dot}{rest}".startswith(_STARTERS):
                    found.append((f"{path}:{node.lineno}", node))
    return found


def test_programs_are_started_with_lists() -> None:
    assert calls()
    for where, call in calls():
        assert not any(word.arg in ("shell", None) for word in call.keywords), where
        words = [*call.args, *(word.value for word in call.keywords)]
        assert not any(isinstance(word, ast.JoinedStr | ast.BinOp) for word in call.args[:2]), where
        assert not any(
            isinstance(each, ast.Constant) and each.value in ("sh", "bash", "/bin/sh", "-c")
            for word in words
            for each in ast.walk(word)
        ), where


NAMED = {
    "adapters/gridengine/dialect.py": "the node's shell runs the script; paths are its arguments, or quoted",
    "adapters/pbs/qsub.py": "-S says what the script is for; a pipeline of qselect and qstat, whose words are quoted",
}
"""Who names a shell, and what it gets of others' text."""


def test_no_text_of_ours_names_a_shell() -> None:
    """Neither does a list that is made first and used later. What tests use is no concern of a user's."""
    for path, tree in modules():
        if path in NAMED or path.startswith("orchestrator/testing/"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.List | ast.Tuple):
                words = [each.value for each in node.elts if isinstance(each, ast.Constant)]
                assert not ({"sh", "bash", "/bin/sh"} & {word for word in words if isinstance(word, str)}), (
                    path,
                    words,
                )


NASTY = [
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned #",
    "| cat",
    "> pwned",
    "a\nb\n",
    "\\n\\",
    "'single' \"double\"",
    "-rf",
    "--help",
    " ",
    "*",
    "~",
    "$HOME ${PATH}",
    "%s %n",
    "{0} {",
    "\t\r\x01\x1b[31m",
    "ünïcödé 日本語 \u202e \U0001f600",
    "Cafe\u0301",
    os.fsdecode(b"\xff\xfe not text"),
]

ECHO = "import os, sys; sys.stdout.buffer.write(b'\\0'.join(map(os.fsencode, [*sys.argv[1:], os.environ['NASTY']])))"

FLOW = f"""
import os, sys
import orch

NASTY = {NASTY!r}
ECHO = {ECHO!r}

@orch.job
def same(results: list, files: list) -> bool:
    here = orch.context()
    for nasty, plain, rich in results:
        for found in (plain, rich):
            expected = b"\\0".join(map(os.fsencode, [nasty, "x" + nasty, nasty]))
            got = here.open(found).read() if isinstance(found, orch.FileRef) else found
            assert got == expected, (nasty, got, expected)
    for name, outputs in files:
        assert here.open(outputs["out"]).read() == b"given", name
        assert outputs["out"].name == name.rpartition("/")[2], name
    return True

@orch.workflow
def main():
    results = []
    for nasty in NASTY:
        words = [sys.executable, "-c", ECHO, nasty, "x" + nasty]
        try:
            nasty.encode()
            plain = orch.command(words, env={{"NASTY": nasty}})
            plain = to_bytes(plain["stdout"])
        except UnicodeEncodeError:
            plain = None
        rich = orch.command(words, env={{"NASTY": nasty}}, stdout="out")["stdout"]
        results.append((nasty, plain if plain is not None else rich, rich))
    files = []
    for nasty in NASTY:
        if "/" in nasty or any(letter in nasty for letter in "*?[") or len(nasty.strip("./")) == 0:
            continue
        try:
            nasty.encode()
        except UnicodeEncodeError:
            continue
        given = orch.command(["sh", "-c", 'printf given > "$1"', "sh", "./" + nasty], outputs={{"out": nasty}})
        files.append((nasty, given["outputs"]))
    return same(results, files)

@orch.job
def to_bytes(text: str) -> bytes:
    return text.encode()
"""


def test_words_arrive_byte_for_byte(tmp_path: Path) -> None:
    flow = tmp_path / "it's a $(touch pwned) flow.py"
    flow.write_text(FLOW, encoding="utf-8")
    done = orch("run", "--store", "s $(touch pwned)", "--run-id", "r", flow.name, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "true\n"), done.stderr
    assert not list(tmp_path.rglob("pwned"))


def test_the_search_for_shells_finds_them() -> None:
    tree = ast.parse("import os as o\nfrom subprocess import getoutput as g\no.system('x')\ng('y')\n")
    assert {name for _, name in mentions(tree)} >= {"os.system", "subprocess.getoutput"}
    assert (TOP / "orchestrator").is_dir()


def test_an_environment_that_is_no_text_arrives_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / "wf.py").write_text(
        "import os, orch\n"
        "@orch.job\ndef forked(): return os.environb[b'ODD'].hex()\n"
        "@orch.job(isolation='pool')\ndef pooled(): return os.environb[b'ODD'].hex()\n"
        "@orch.workflow\ndef main():\n"
        "    program = orch.command(['sh', '-c', 'printf %s \"$ODD\" | od -An -v -tx1'])['stdout']\n"
        "    return [os.environb[b'ODD'].hex(), forked(), pooled(), program]\n",
        encoding="utf-8",
    )
    odd = b"\xffa\x80\n\xc3\xa4$(touch pwned)"
    done = orch("run", "--store", "s", "wf.py", cwd=tmp_path, ODD=os.fsdecode(odd))
    assert done.returncode == 0, done.stderr
    *found, program = json.loads(done.stdout)
    assert [*found, "".join(program.split())] == [odd.hex()] * 4
