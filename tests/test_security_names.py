"""Names lead nowhere: of outputs, files, jobs, runs, hosts, and of what is exported. Refused, or made harmless."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.attempts import World, gather
from support.command import orch

import orch as api
from orch.attempt import Reason
from orch.cli.export import Exporter
from orch.errors import StoreError, UserError
from orch.files import DirRef, FileRef, parse_ref
from orch.store.file import FileStore
from orch.store.layout import agent_dir, output_file, safe_name
from orch.store.runs import check_run_id
from orch.work.transfer import export

AWAY = ["/etc/passwd", "../x", "a/../../x", "..", ".", "", "a\0b", "/", "./.."]
"""What leads out of a directory, or names nothing in it."""

NAMES = ["a\nb", "\x1b[31mred", "\u202egpj.exe", "Cafe\u0301", "-rf", "x" * 255, "ä" * 127, " ", "~", "..x", "*?["]
"""What is odd, and names a file."""


@pytest.fixture
def world(tmp_path: Path) -> World:
    found = World(tmp_path)
    found.store.create()
    return found


@api.job
def body(function: Any) -> Any:
    return function()


# What a workflow says ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AWAY)
@pytest.mark.parametrize("what", ["outputs", "inputs", "stdout", "stderr"])
def test_names_of_a_command_stay_in_its_scratch_directory(name: str, what: str) -> None:
    ref = FileRef(name="x", path="runs/x")
    given: Any = {"outputs": {"x": name}, "inputs": {name: ref}, "stdout": name, "stderr": name}[what]
    with pytest.raises(UserError):
        api.command(["true"], **{what: given})


def test_a_current_directory_that_leads_out_is_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        api.command(["true"], cwd="../x")
    late = api.command(["touch", "here"], cwd=body(lambda: "../../escaped"))
    with pytest.raises(AssertionError, match="is not a directory on this host"):
        world.evaluate(late)
    assert not (tmp_path / "escaped").exists()


def fails(world: World, job: Any) -> str:
    outcome = world.outcome(job)
    assert outcome.reason in (Reason.FAILED, Reason.ERROR), outcome  # the latter where it is the store that refuses
    return outcome.message


def test_what_a_program_links_to_is_not_taken_for_its_output(world: World, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "x").write_text("secret")
    script = f"ln -s {tmp_path}/secret file; ln -s {tmp_path}/secrets dir; mkdir real; ln -s {tmp_path}/secret real/x"
    for output in ("file", "f*", "dir/", "dir/x", "dir/*", "real/", "real/x"):
        message = fails(world, api.command(["sh", "-c", script], outputs={"out": output}))
        assert "link to" in message, output
        assert "outside of" in message, output
    for stream in ("stdout", "stderr"):
        given: Any = {stream: "out"}
        message = fails(world, api.command(["sh", "-c", f"ln -sf {tmp_path}/secret out"], **given))
        assert "is a link to" in message
    assert not [path for path in world.store.list() if b"secret" in world.store.read_bytes(path)]


def test_a_stream_does_not_write_through_an_input(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An input may be a link into the store, where root could write."""
    monkeypatch.setattr("orch.work.staging.PRIVATE_LIMIT", 0)
    ref = world.value(body(lambda: api.context().write_file(_made("given", "original"))))
    job = api.command(["echo", "changed"], inputs={"given": ref}, stdout="given")
    outcome = world.run(world.attempt(gather(job).jobs[-1], job=2))
    assert outcome.reason == Reason.FINISHED, outcome
    assert world.store.read_bytes(ref.path) == b"original"


def _made(name: str, text: str) -> Path:
    path = api.context().scratch / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", [*AWAY, "a/b"])
def test_a_stored_file_has_a_plain_name(world: World, name: str) -> None:
    message = fails(world, body(lambda: api.import_file(_made("x", "x"), name=name)) if name else body(_unnamed))
    assert "cannot be the name of a stored file" in message


def _unnamed() -> Any:
    return api.context().store_file(_made("x", "x"), "")


@pytest.mark.parametrize("name", NAMES)
def test_odd_names_of_files_are_kept(world: World, tmp_path: Path, name: str) -> None:
    ref = world.value(body(lambda: _write(name)))
    assert ref.name == name
    assert world.value(body(lambda: Path(api.context().read_file(ref)).name)) == name
    assert parse_ref(str(ref)) == ref
    assert export(world.store.local_path(ref.path), ref, f"{tmp_path}/out/").name == name
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


def _write(name: str) -> FileRef:
    return api.context().write_file(_made(name, "x"))


def test_a_name_that_no_file_can_have_is_told(world: World) -> None:
    message = fails(world, body(lambda: api.import_file(_made("x", "x"), name="x" * 256)))
    assert "File name too long" in message


# References written by hand ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", AWAY)
def test_a_reference_cannot_lead_out_of_the_store(world: World, path: str) -> None:
    for kind in (FileRef, DirRef):
        ref = kind(name="x", path=path)
        with pytest.raises(StoreError, match="is not a path inside a store"):
            world.store.local_path(ref.path)
        assert "is not a path inside a store" in world.outcome(body(lambda ref=ref: _read(ref))).message


def _read(ref: FileRef) -> bytes:
    return Path(api.context().read_file(ref)).read_bytes()


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "..", ".", "", "a/../..", "a\0b", "sub/evil"])
def test_the_name_in_a_reference_cannot_lead_anywhere(world: World, tmp_path: Path, name: str) -> None:
    world.store.write_bytes("runs/x/file", b"x")
    ref = FileRef(name=name, path="runs/x/file")

    def staged() -> bool:
        here = api.context()
        found = [here.read_file(ref), here.read_file(ref, mutable=True)]
        return all(here.scratch in path.parents and ".." not in path.parts for path in found)

    assert world.value(body(staged))
    out = tmp_path / "deep" / "out"
    assert export(world.store.local_path(ref.path), ref, f"{out}/").parent == out
    assert Path(Exporter(world.store, out)(ref)).parent == out
    assert {path.parent for path in tmp_path.rglob("evil")} <= {out}


def test_an_exported_directory_holds_no_links(world: World, tmp_path: Path) -> None:
    """Neither what was stored nor what somebody has put into the store since."""
    ref = world.value(body(_tree))
    stored = world.store.local_path(ref.path)
    top = export(stored, ref, tmp_path / "out")
    assert sorted(path.name for path in top.iterdir()) == ["inside", "real"]
    assert not [path for path in top.rglob("*") if path.is_symlink()]
    assert (top / "inside").read_text() == "x"


def _tree() -> DirRef:
    top = api.context().scratch / "tree"
    top.mkdir()
    (top / "real").write_text("x")
    (top / "inside").symlink_to("real")
    return api.context().write_dir(top)


def test_a_link_that_leads_out_of_a_directory_is_refused(world: World, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    top = tmp_path / "tree"
    top.mkdir()
    for target in (tmp_path / "secret", Path("../secret"), Path("/"), Path("..")):
        (top / "link").symlink_to(target)
        assert "outside of" in fails(world, body(lambda: api.context().write_dir(top)))
        (top / "link").unlink()


def test_an_export_replaces_a_link_and_not_what_it_leads_to(world: World, tmp_path: Path) -> None:
    ref = world.value(body(lambda: _write("x")))
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").symlink_to(tmp_path / "precious")
    Exporter(world.store, tmp_path / "out")(ref)
    assert (tmp_path / "precious").read_text() == "precious"
    assert (tmp_path / "out" / "x").read_text() == "x"


# Runs, jobs, hosts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [*AWAY, "a/b", "a\nb", "-x", "..x", ".x", "x" * 101, "ä", "\uff0e\uff0e", "a b"])
def test_a_run_id_is_the_name_of_a_directory(run: str, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        check_run_id(run)
    if run and "\0" not in run:
        (tmp_path / "wf.py").write_text("import orch\n@orch.workflow\ndef main(): return 1\n")
        done = orch("run", f"--run-id={run}", "--store", "s", "wf.py", cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "s" / "runs").exists()


@pytest.mark.parametrize("command", ["status", "tail", "replay", "stop", "cancel", "clean"])
def test_no_command_takes_a_run_from_elsewhere(command: str, tmp_path: Path) -> None:
    FileStore(tmp_path / "s").create()
    precious = tmp_path / "s" / "precious"
    precious.mkdir()
    for run in ("../precious", "..", "."):
        done = orch(command, "--store", "s", run, cwd=tmp_path)
        assert done.returncode in (2, 6), (run, done)
        assert "Traceback" not in done.stderr
    assert precious.is_dir()


@pytest.mark.parametrize("name", [*AWAY, *NAMES, "\U00020000" * 300, "\u3042" * 300, "x" * 1000, "\udcff"])
def test_a_job_or_host_of_any_name_has_a_file_of_its_own(name: str, tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    for path in (output_file("r", 10**9, name, 10**6, "stdout"), f"{agent_dir(name)}/agent.log"):
        store.write_bytes(path, b"x")
        assert store.local_path(path).is_file()
        assert len(Path(path).parts) == len(Path(output_file("r", 1, "x", 1, "stdout")).parts) or "agents" in path
    assert "/" not in safe_name(name)
    assert safe_name(name) not in ("", ".", "..")


def test_a_job_of_an_odd_name_runs(tmp_path: Path) -> None:
    names = [*(name for name in NAMES if name.strip()), "../../x", "/etc/passwd", "\U00020000" * 90, "a\0b"]
    (tmp_path / "wf.py").write_text(
        "import orch\n@orch.workflow\ndef main():\n"
        f"    return [orch.command(['seq', '20000'], name=name)['exit_code'] for name in {names!r}]\n"
    )
    done = orch("run", "--store", "s", "--run-id", "r", "wf.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shown = orch("status", "--store", "s", cwd=tmp_path)
    assert "\x1b" not in shown.stdout
    logs = orch("logs", "--all", "--to", "logs", "--store", "s", cwd=tmp_path)
    assert logs.returncode == 0, logs.stderr
    outside = {path.name for path in tmp_path.iterdir()} - {"s", "wf.py", "logs", "__pycache__"}
    assert not outside
    assert all(path.parent == tmp_path / "logs" for path in (tmp_path / "logs").rglob("*"))


def test_an_export_directory_is_never_a_file_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "wf.py").write_text("import orch\n@orch.workflow\ndef main(): return 1\n")
    (tmp_path / "file").write_text("precious")
    for out in ("file", "file/x", "s3:x", ""):
        done = orch("run", "--store", "s", f"--out={out}", "wf.py", cwd=tmp_path)
        assert done.returncode == 2, (out, done.stdout)
        assert "Traceback" not in done.stderr
    assert (tmp_path / "file").read_text() == "precious"
