"""Bad input: a clear message that names the thing, exit code 2, no traceback of ours, nothing half-made left behind."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from support.command import orch

HEAD = "import orch\n"
WORKFLOW = "@orch.workflow\ndef main(n: int = 1):\n    return n\n"
JOB = "@orch.job\ndef job(x=None):\n    return x\n"

CASES = {
    "a syntax error": ("import orch\ndef broken(:\n    pass\n", [], ["wf.py:2", "syntax error"]),
    "an exception while importing": (
        HEAD + "def helper():\n    raise RuntimeError('at import')\nhelper()\n" + WORKFLOW,
        [],
        ["RuntimeError: at import", "wf.py", "line 3", "helper"],
    ),
    "an import that is not there": (HEAD + "import no_such_module_here\n" + WORKFLOW, [], ["no_such_module_here"]),
    "no workflow": (HEAD + JOB, [], ["wf.py", "@orch.workflow"]),
    "several workflows": (HEAD + WORKFLOW + WORKFLOW.replace("main", "other"), [], ["main", "other"]),
    "an unknown option": (HEAD + WORKFLOW, ["--m", "3"], ["unknown option --m", "--n int"]),
    "an ill-typed option": (HEAD + WORKFLOW, ["--n", "three"], ["--n", "three", "int"]),
    "an option without its value": (HEAD + WORKFLOW, ["--n"], ["--n", "needs a value"]),
    "an option that is missing": (HEAD + WORKFLOW.replace(" = 1", ""), [], ["--n", "required"]),
    "an option of ours behind the workflow": (
        HEAD + WORKFLOW,
        ["--quiet"],
        ["unknown option --quiet", "put it before the workflow"],
    ),
    "an exception in the workflow": (
        HEAD + "@orch.workflow\ndef main():\n    return 1 / 0\n",
        [],
        ["ZeroDivisionError", "wf.py", "line 4"],
    ),
    "an argument that cannot be pickled": (
        HEAD
        + "import threading\n"
        + JOB
        + "@orch.workflow\ndef main():\n    return job({'deep': [threading.Lock()]})\n",
        [],
        ["job", "deep", "lock"],
    ),
    "a job passed to itself": (
        HEAD
        + JOB
        + "@orch.workflow\ndef main():\n    box = []\n    made = job(box)\n    box.append(made)\n    return made\n",
        [],
        ["job"],
    ),
    "more than the machine has": (
        HEAD + JOB.replace("@orch.job", "@orch.job(cores=100000)") + "@orch.workflow\ndef main():\n    return job()\n",
        [],
        ["job", "cores: wanted 100000, available"],
    ),
    "a bad size": (HEAD + JOB.replace("@orch.job", "@orch.job(memory='much')") + WORKFLOW, [], ["much", "size"]),
    "the end of the process": (
        HEAD + "import os\n@orch.workflow\ndef main():\n    os._exit(7)\n",
        [],
        ["ended with exit code 7"],
    ),
}


def check(done: object, store: Path, words: list[str]) -> None:
    """Exit code 2, a message with these words, nothing of ours in it, nothing of a run in the store."""
    code, out, err = (getattr(done, name) for name in ("returncode", "stdout", "stderr"))
    assert code == 2, err
    assert out == ""
    for word in words:
        assert word in err
    package = str(Path(__file__).parent.parent)
    assert package not in err, "frames of ours"
    runs = store / "runs"
    assert not runs.exists() or not any(runs.iterdir())


@pytest.mark.parametrize("case", CASES)
def test_a_workflow_that_is_wrong(tmp_path: Path, case: str) -> None:
    text, options, words = CASES[case]
    (tmp_path / "wf.py").write_text(textwrap.dedent(text))
    check(orch("run", "wf.py", *options, cwd=tmp_path), tmp_path / ".orch", words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.py"], ["nowhere.py", "no file"]),
        (["."], ["is a directory"]),
        (["wf.txt"], ["not a Python file"]),
        (["-m", "no_such.module"], ["no_such"]),
        (["--adapter", "slurn", "wf.py"], ["slurn", "local"]),
        (["--store", "s3://bucket/x", "wf.py"], ["pip install 'orch[s3]'"]),
        (["--store", "gopher:x", "wf.py"], ["gopher"]),
        (["--store", "wf.py", "wf.py"], ["wf.py", "--store"]),
        (["--run-id", "a/b", "wf.py"], ["a/b", "letters"]),
        (["--memory", "lots", "wf.py"], ["lots", "size"]),
    ],
)
def test_a_command_line_that_is_wrong(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    (tmp_path / "wf.py").write_text(HEAD + WORKFLOW)
    (tmp_path / "wf.txt").write_text("")
    check(orch("run", *arguments, cwd=tmp_path), tmp_path / ".orch", words)


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "wf.py").write_text(HEAD + WORKFLOW)
    store = Path("/proc/self/orch-store")  # not even root can make this
    check(orch("run", "--store", store, "wf.py", cwd=tmp_path), store, [str(store), "--store"])


def test_a_run_id_that_exists(tmp_path: Path) -> None:
    (tmp_path / "wf.py").write_text(HEAD + WORKFLOW)
    assert orch("run", "--run-id", "r", "wf.py", cwd=tmp_path).returncode == 0
    before = sorted(tmp_path.rglob("*.jsonl"))
    done = orch("run", "--run-id", "r", "wf.py", cwd=tmp_path)
    assert done.returncode == 2
    assert "has a run r already" in done.stderr
    assert "orch replay r --restart" in done.stderr
    assert sorted(tmp_path.rglob("*.jsonl")) == before


def test_jobs_that_nobody_uses_are_a_warning(tmp_path: Path) -> None:
    text = HEAD + JOB + "@orch.workflow\ndef main():\n    job(1)\n    return 3\n"
    (tmp_path / "wf.py").write_text(text)
    done = orch("run", "wf.py", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
    assert "warning: " in done.stderr
    assert "wf.py" in done.stderr


def test_modules_of_the_user_do_no_harm(tmp_path: Path) -> None:
    for name in ("bus", "cli", "adapters", "json", "queue"):
        (tmp_path / f"{name}.py").write_text("VALUE = 1\n")
    text = HEAD + "import bus, cli\n@orch.job\ndef job():\n    return bus.VALUE + cli.VALUE\n"
    (tmp_path / "wf.py").write_text(text + "@orch.workflow\ndef main():\n    return job()\n")
    command = Path(sys.executable).with_name("orch")
    done = subprocess.run([command, "run", "wf.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr


@pytest.mark.parametrize("option", ["--out", "--work-dir", "--store"])
def test_a_directory_that_cannot_be_is_found_before_the_run(tmp_path: Path, option: str) -> None:
    (tmp_path / "wf.py").write_text(HEAD + WORKFLOW)
    for place in ("/proc/no", "wf.py/below"):
        done = orch("run", option, place, "wf.py", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert place.split("/")[-2] in done.stderr
        assert "does not exist" not in done.stderr
        assert not (tmp_path / ".orch" / "runs").exists()
