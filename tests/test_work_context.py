"""The context of a running job; files in and out of the store."""

from __future__ import annotations

import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.attempts import World, gather

import orch
from orch.attempt import Note, Reason
from orch.authoring.pickling import loads
from orch.errors import JobError, NoSuchFile, UserError
from orch.work.traces import short_trace

ODD = "naïve name\nwith % & ? = #.txt"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@orch.job
def call(work: Any, *args: Any) -> Any:
    return work(*args)


def fails(world: World, work: Any, *args: Any) -> str:
    outcome = world.outcome(call(work, *args))
    assert outcome.reason != Reason.FINISHED
    return outcome.message


def facts() -> Any:
    here = orch.context()
    return here.job_id, here.attempt, here.resources.memory, here.scratch.is_dir(), repr(here)


def test_who_it_is(world: World) -> None:
    value = world.value(call.options(memory="1K", name="me")(facts))
    assert value == ("1", 1, 1024, True, "<context of me [job 1], attempt 1>")


@pytest.mark.parametrize(
    "use", [orch.context, lambda: orch.import_file("x"), lambda: orch.export_file(orch.FileRef("a", "b"), "x")]
)
def test_outside_of_a_job(use: Any) -> None:
    with pytest.raises(JobError, match="works inside a running job"):
        use()


def test_logs_and_annotations(world: World) -> None:
    def speak() -> None:
        here = orch.context()
        here.log("hello")
        here.log("careful", "warning")
        here.annotate("progress", {"done": 3, "of": (1, 2)})
        with here.log_stream("tool") as stream:
            stream.write("one\ntw")
            stream.write("o\nthree")
            print("!", file=stream)
            stream.write("unfinished")

    world.value(call(speak))
    key = "run/1.1"
    assert world.notes == [
        Note(key, "log", "", "hello", "info"),
        Note(key, "log", "", "careful", "warning"),
        Note(key, "annotate", "progress", {"done": 3, "of": [1, 2]}),
        Note(key, "log", "tool", "one", "info"),
        Note(key, "log", "tool", "two", "info"),
        Note(key, "log", "tool", "three!", "info"),
        Note(key, "log", "tool", "unfinished", "info"),
    ]


def test_what_no_log_can_hold_is_said_as_text(world: World) -> None:
    def speak() -> None:
        here = orch.context()
        here.log("a\ud800b")
        with here.log_stream("s\ud800") as stream:
            stream.write("\ud801\n")
        here.annotate("n\ud800", [10**25])

    world.value(call(speak))
    said = [(note.name, note.value) for note in world.notes]
    assert said == [("", "a\\ud800b"), ("s\\ud800", "\\ud801"), ("n\\ud800", f"[{10**25}]")]
    assert msgspec.msgpack.encode(world.notes)


def test_what_cannot_be_said(world: World) -> None:
    assert "'loud' is not a level" in fails(world, lambda: orch.context().log("x", "loud"))
    assert "cannot be written as JSON" in fails(world, lambda: orch.context().annotate("x", object()))


def write(name: str, mode: int = 0o644) -> Any:
    path = orch.context().scratch / name
    path.write_text("contents")
    path.chmod(mode)
    return orch.context().write_file(path)


def test_files_go_into_the_store_and_come_back(world: World) -> None:
    outcome = world.outcome(call(write, ODD, 0o755))
    ref = loads(outcome.value.data, lambda *_: None)
    assert (ref.name, ref.size, ref.executable, ref.digest[:7]) == (ODD, 8, True, "sha256:")
    assert [file.path for file in outcome.files] == [ref.path]

    def read() -> Any:
        here = orch.context()
        linked = here.read_file(ref, to="sub/linked")
        copied = here.read_file(ref, mutable=True)
        again = here.read_file(ref, mutable=True)
        copied.write_text("changed")
        with here.open(ref) as file:
            data = file.read()
        return (
            here.read_file(ref).read_text(),
            (linked == here.scratch / "sub/linked", linked.read_text()),
            (os.access(copied, os.X_OK), copied != again, again.read_text()),
            data,
        )

    assert [file.keep for file in outcome.files] == [""]
    assert world.value(call(read)) == ("contents", (True, "contents"), (True, True, "contents"), b"contents")


def test_an_attempt_whose_number_was_used_before_harms_nothing(world: World) -> None:
    """A log that has lost its end (relaxed, and a power cut; or repaired) gives numbers again."""

    def write_dir(content: str) -> Any:
        top = orch.context().scratch / "top"
        top.mkdir()
        (top / "file").write_text(content)
        return orch.context().write_dir(top)

    before, after = world.value(call(write_dir, "before")), world.value(call(write_dir, "after"))
    assert before.path != after.path
    assert world.store.read_bytes(f"{before.path}/file") == b"before"
    assert world.store.read_bytes(f"{after.path}/file") == b"after"


def test_directories_too(world: World, tmp_path: Path) -> None:
    def write_dir() -> Any:
        top = orch.context().scratch / "top"
        (top / "below").mkdir(parents=True)
        (top / "below" / ODD).write_text("x")
        return orch.context().write_dir(top)

    ref = world.value(call(write_dir))
    assert (ref.name, ref.size) == ("top", 1)

    def export() -> Any:
        copied = orch.context().read_file(ref, mutable=True)
        (copied / "more").write_text("")
        return orch.export_file(ref, tmp_path / "out" / "there")

    assert world.value(call(export)) == tmp_path / "out" / "there"
    assert (tmp_path / "out" / "there" / "below" / ODD).read_text() == "x"


def test_a_file_whose_name_is_no_text(world: World, tmp_path: Path) -> None:
    """The log is UTF-8: the name would end the attempt where nobody sees why."""
    (tmp_path / "x\udcfe").write_text("")
    (tmp_path / "y\udcfe").mkdir()
    for name, work in (("x", "write_file"), ("y", "write_dir")):
        message = fails(world, lambda work, name: getattr(orch.context(), work)(f"{tmp_path}/{name}\udcfe"), work, name)
        assert f"'{name}\\udcfe' cannot be the name of a stored file: it is not UTF-8; rename it first" in message


def test_what_is_wrong_with_files(world: World, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("")
    here = orch.context
    assert "there is no file /nope" in fails(world, lambda: here().write_file("/nope"))
    assert "is a directory; write_dir takes one" in fails(world, lambda: here().write_file(tmp_path))
    assert "there is no directory" in fails(world, lambda: here().write_dir(tmp_path / "secret"))
    text: Any = "x"
    assert "a FileRef or DirRef is needed, and this is a str: 'x'" in fails(world, lambda: here().read_file(text))
    gone = orch.FileRef("gone.txt", "runs/run/files/000/9.1/0/gone.txt")
    assert "'gone.txt' is not in the store" in fails(world, lambda: here().read_file(gone))
    ref = world.value(call(write, "a"))
    assert "something is there already" in fails(world, lambda: [here().read_file(ref, to="a") for _ in "12"])


def test_import_from_a_path_or_url(world: World, tmp_path: Path) -> None:
    file = tmp_path / "a b.txt"
    file.write_text("x")
    file.chmod(0o755)
    for source in (file, str(file), file.as_uri()):
        ref = world.value(call(orch.import_file, source))
        assert (ref.name, ref.size, ref.executable) == ("a b.txt", 1, True)
    assert world.value(call(orch.import_file, file, "other")).name == "other"


def test_import_errors(world: World, tmp_path: Path) -> None:
    assert "no such file" in fails(world, orch.import_file, tmp_path / "nope")
    assert "is a directory" in fails(world, orch.import_file, tmp_path)
    assert "names another host" in fails(world, orch.import_file, "file://far/x")
    assert "only paths and file:, http: and https: URLs" in fails(world, orch.import_file, "gopher://x/y")
    assert "cannot be the name of a stored file" in fails(world, orch.import_file, __file__, "../x")


def test_an_import_that_fails_shows_the_users_line_alone(world: World, tmp_path: Path) -> None:
    def load() -> Any:
        try:
            return orch.import_file(tmp_path / "nope")
        except UserError as error:
            return short_trace(error)

    shown = world.value(call(load))
    assert "import_file(" in shown
    assert "contextlib" not in shown


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if "missing" in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", "9" if "short" in self.path else "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_args: Any) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_files_may_be_kept_for_successors_only(world: World) -> None:
    def both() -> None:
        here = orch.context()
        (here.scratch / "dir").mkdir()
        (here.scratch / "dir" / "a").write_text("a")
        here.write_file(here.scratch / "dir" / "a", keep="successors")
        here.write_dir(here.scratch / "dir", keep="successors")
        here.write_file(here.scratch / "dir" / "a", keep=None)

    outcome = world.outcome(call(both))
    assert [(file.keep, file.directory) for file in outcome.files] == [
        ("successors", False),
        ("successors", True),
        ("", False),
    ]
    for work in ("write_file", "write_dir"):
        message = fails(world, lambda work=work: getattr(orch.context(), work)("/", keep="always"))
        assert message.startswith(f"{work}: ")
    refusal = fails(world, lambda: orch.context().write_file(__file__, keep="always"))
    assert refusal == "write_file: keep='always': it is \"successors\", or nothing for a file that is kept with the run"


def test_import_over_http(world: World, server: str) -> None:
    ref = world.value(call(orch.import_file, f"{server}/data/a%20b.txt?x=1"))
    assert (ref.name, ref.size) == ("a b.txt", 5)
    assert "404" in fails(world, orch.import_file, f"{server}/missing")
    assert "ended 4 bytes too early" in fails(world, orch.import_file, f"{server}/short")


def test_export(world: World, tmp_path: Path) -> None:
    ref = world.value(call(write, "a.txt", 0o755))
    (tmp_path / "dir").mkdir()
    (tmp_path / "old").write_text("old")
    for path, final in [("new/b", "new/b"), ("dir", "dir/a.txt"), ("fresh/", "fresh/a.txt"), ("old", "old")]:
        found = world.value(call(orch.export_file, ref, f"{tmp_path}/{path}"))
        assert found == tmp_path / final
        assert found.read_text() == "contents"
        assert os.access(found, os.X_OK)
    assert not list(tmp_path.rglob("*.part"))
    assert "cannot export 'a.txt'" in fails(world, orch.export_file, ref, "/dev/null/x")


names = st.text(min_size=1, max_size=20).filter(lambda text: "/" not in text and "\0" not in text)


@given(names, st.integers(0, 2**60), st.booleans())
def test_the_text_of_a_reference_survives(name: str, size: int, executable: bool) -> None:
    ref = orch.FileRef(name, f"runs/r/files/000/1.1/0/{name}", size, "sha256:0af", executable)
    text = str(ref)
    assert json.loads(json.dumps(text)) == text
    assert text.isascii()
    assert text.isprintable()
    assert orch.FileRef.parse(text) == ref
    directory = orch.DirRef(name, f"x/{name}", size)
    assert orch.DirRef.parse(str(directory)) == directory


@pytest.mark.parametrize("text", ["", "x", "orch-dir:a?name=b", "orch-file:a", "orch-file:a?name=b&colour=1"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="is not the text of a FileRef"):
        orch.FileRef.parse(text)


def test_references_travel_as_values(world: World) -> None:
    ref = orch.FileRef("a", "b", 1, "sha256:1", executable=True)
    assert world.evaluate([call(lambda: ref)]) == [ref]
    assert len(gather(ref).value.data) < 200


def test_a_file_that_vanished_is_not_the_job_s_fault(world: World) -> None:
    gone = orch.FileRef("gone", "runs/run/files/000/9.1/0/gone")
    outcome = world.outcome(call(lambda: orch.context().open(gone)))
    assert outcome.reason == Reason.ERROR
    assert issubclass(NoSuchFile, orch.SystemTrouble)


def test_a_note_that_cannot_be_written_is_told_once(world: World) -> None:
    def annotate() -> str:
        try:
            orch.context().annotate("x", object())
        except JobError as error:
            return short_trace(error)
        return ""

    shown = world.value(call(annotate))
    assert "annotate: the value of 'x' cannot be written as JSON" in shown
    assert "direct cause" not in shown
