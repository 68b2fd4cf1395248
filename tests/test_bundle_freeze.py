"""A workflow's code becomes a bundle: what is found, what is refused, and that nothing of it is run."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import orch
from orch.bundle import Bundle, Source, freeze
from orch.errors import WorkflowError
from orch.store.file import FileStore

HEAD = "import orch\n@orch.workflow\ndef main(): return 1\n"


def files(tree: Path, **contents: str) -> Path:
    """Write files: `a__b_py="…"` is a/b.py. Returns the tree."""
    for name, text in contents.items():
        path = tree / name.replace("__", "/").replace("_init", "__init__").replace("_py", ".py").replace("_csv", ".csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tree


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    found = FileStore(tmp_path / "store")
    found.create()
    return found


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tmp_path / "tree"


def frozen(store: FileStore, source: Source) -> tuple[Bundle, list[str]]:
    bundle = freeze(source, store)
    root = store.local_path(f"bundles/{bundle.digest}/code")
    return bundle, sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_one_file(store: FileStore, tree: Path) -> None:
    files(tree, wf_py=HEAD, other_py="", notes="")
    bundle, names = frozen(store, Source.file(tree / "wf.py"))
    assert names == ["wf.py"]
    assert (bundle.manifest.module, bundle.manifest.file, bundle.manifest.original) == ("wf", "code/wf.py", str(tree))


def test_siblings_and_packages_that_are_imported(store: FileStore, tree: Path) -> None:
    files(
        tree,
        wf_py=HEAD + "import a, b.c as d\nfrom space import thing\ndef f():\n    from late import x\n",
        a_py="import deep, json, msgspec, nowhere\nimportlib.import_module('dynamic')",
        deep_py="",
        dynamic_py="",
        late_py="",
        unused_py="",
        b___init_py="",
        b__c_py="import beside",
        b__data__table_csv="1,2",
        b____pycache____c_pyc="",
        b__venv__pyvenv="",
        beside_py="",
        space__thing_py="",
        plain__notes="",
    )
    _, names = frozen(store, Source.file(tree / "wf.py"))
    assert [name for name in names if "venv" not in name and "pycache" not in name] == [
        "a.py",
        "b/__init__.py",
        "b/c.py",
        "b/data/table.csv",
        "beside.py",
        "deep.py",
        "dynamic.py",
        "late.py",
        "space/thing.py",
        "wf.py",
    ]


def test_what_is_never_taken_along(store: FileStore, tree: Path) -> None:
    files(tree, wf_py="import p", p___init_py="", p__good_py="")
    for name in (
        "__pycache__/x.pyc",
        ".git/x.py",
        "venv/pyvenv.cfg",
        "venv/x.py",
        "runs/orch.json",
        "runs/x",
        ".hidden",
    ):
        path = tree / "p" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    (tree / "p" / "loop").symlink_to(tree / "p")
    assert frozen(store, Source.file(tree / "wf.py"))[1] == ["p/__init__.py", "p/good.py", "wf.py"]


def test_the_digest_is_of_names_and_contents(store: FileStore, tree: Path, tmp_path: Path) -> None:
    files(tree, wf_py=HEAD + "import a", a_py="x = 1")
    digest = freeze(Source.file(tree / "wf.py"), store).digest
    assert freeze(Source.file("tree/wf.py", cwd=str(tmp_path)), store).digest == digest
    moved = files(tmp_path / "elsewhere", wf_py=HEAD + "import a", a_py="x = 1")
    assert freeze(Source.file(moved / "wf.py"), store).digest == digest
    files(moved, a_py="x = 2")
    assert freeze(Source.file(moved / "wf.py"), store).digest != digest


def test_two_at_once_do_no_harm(store: FileStore, tmp_path: Path) -> None:
    trees = [files(tmp_path / name, wf_py=HEAD) for name in ("one", "two", "three", "four")]
    barrier = threading.Barrier(4)

    def one(where: Path) -> str:
        barrier.wait()
        return freeze(Source.file(where / "wf.py"), store).digest

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(one, trees))) == 1
    assert len(list((store.root / "bundles").iterdir())) == 1


def test_declared_extras(store: FileStore, tree: Path) -> None:
    head = "from orch import workflow\n@workflow(include=['data/*.csv', 'more'])\ndef main(): return 1\n"
    files(tree, wf_py=head, data__a_csv="", data__b_csv="", data__c="", more__deep__x="")
    assert frozen(store, Source.file(tree / "wf.py"))[1] == ["data/a.csv", "data/b.csv", "more/deep/x", "wf.py"]


@pytest.mark.parametrize(
    ("include", "message"),
    [
        ("['nope/*']", "wf.py:2: include='nope/*' matches no file"),
        ("['../x']", "leads out of the workflow's directory"),
        ("['/etc/passwd']", "leads out of the workflow's directory"),
        ("'data'", "must be a list of texts, written out"),
        ("FILES", "must be a list of texts, written out"),
    ],
)
def test_extras_that_cannot_be(store: FileStore, tree: Path, include: str, message: str) -> None:
    files(tree, wf_py=f"import orch\n@orch.workflow(include={include})\ndef main(): return 1\n", x="")
    with pytest.raises(WorkflowError) as raised:
        freeze(Source.file(tree / "wf.py"), store)
    assert message in str(raised.value)


def test_a_syntax_error_shows_its_line(store: FileStore, tree: Path) -> None:
    files(tree, wf_py="import orch\ndef main(:\n    pass\n")
    with pytest.raises(WorkflowError) as raised:
        freeze(Source.file(tree / "wf.py"), store)
    lines = str(raised.value).splitlines()
    assert lines[0] == f"{tree}/wf.py:2: syntax error: invalid syntax"
    assert lines[1:] == ["    def main(:", "             ^"]
    assert not (store.root / "bundles").exists()


def test_syntax_errors_elsewhere(store: FileStore, tree: Path) -> None:
    files(tree, wf_py="import a", a_py="def (")
    with pytest.raises(WorkflowError, match=r"a\.py:1: syntax error"):
        freeze(Source.file(tree / "wf.py"), store)
    files(tree, a_py="import p", p___init_py="", p__template_py="def {{ name }}")
    freeze(Source.file(tree / "wf.py"), store)  # a file in a package need not be imported


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nope.py", "there is no file nope.py"),
        ("nope", "there is no file nope; to run a module by its name: orch run -m"),
        ("dir", "dir is a directory: name the workflow's file, or a module with -m"),
        ("flow.txt", "flow.txt is not a Python file: its name must end in .py"),
    ],
)
def test_files_that_are_none(store: FileStore, tree: Path, name: str, message: str) -> None:
    (tree / "dir").mkdir(parents=True)
    (tree / "flow.txt").write_text("")
    with pytest.raises(WorkflowError) as raised:
        freeze(Source.file(name, cwd=str(tree)), store)
    assert str(raised.value) == message


def test_odd_contents(store: FileStore, tree: Path) -> None:
    tree.mkdir()
    (tree / "a.py").write_bytes(b"x = 1\0")
    with pytest.raises(WorkflowError, match="null bytes"):
        freeze(Source.file(tree / "a.py"), store)
    (tree / "a.py").write_bytes(b"x = '\xff'\n")
    with pytest.raises(WorkflowError, match=r"a\.py:1: syntax error: .*utf-8"):
        freeze(Source.file(tree / "a.py"), store)
    (tree / "a.py").write_bytes(b"# -*- coding: latin-1 -*-\nx = '\xff'\n")
    freeze(Source.file(tree / "a.py"), store)


def test_relative_imports_need_a_package(store: FileStore, tree: Path) -> None:
    files(tree, wf_py="from . import helper", helper_py="")
    with pytest.raises(WorkflowError, match=r"wf.py:1: a relative import .* orch run -m PACKAGE.wf"):
        freeze(Source.file(tree / "wf.py"), store)


@pytest.mark.parametrize("name", ["random", "orch", "my-flow", "a.b", "class", "json", "2nd"])
def test_stems_that_are_no_good_as_names(store: FileStore, tree: Path, name: str) -> None:
    files(tree)
    tree.mkdir()
    (tree / f"{name}.py").write_text(HEAD)
    module = freeze(Source.file(tree / f"{name}.py"), store).manifest.module
    assert module.startswith("workflow_")
    assert module.isidentifier()


def test_files_named_like_the_standard_library(store: FileStore, tree: Path) -> None:
    files(tree, wf_py="import queue, bus, cli", queue_py="", random_py="", bus_py="", cli_py="")
    bundle, names = frozen(store, Source.file(tree / "wf.py"))
    assert names == ["bus.py", "cli.py", "wf.py"]
    assert bundle.warnings == [
        f"{tree}/queue.py is not used: 'import queue' means the standard library; rename it if it was meant"
    ]


def test_modules(store: FileStore, tree: Path) -> None:
    files(
        tree, pkg___init_py="", pkg__main_py=HEAD + "from . import other\nimport lib", pkg__other_py="", pkg__d_csv=""
    )
    files(tree, lib_py="", pkg__sub___init_py="", alone_py=HEAD)
    bundle, names = frozen(store, Source.of_module("pkg.main", cwd=str(tree)))
    assert names == ["lib.py", "pkg/__init__.py", "pkg/d.csv", "pkg/main.py", "pkg/other.py", "pkg/sub/__init__.py"]
    assert (bundle.manifest.module, bundle.manifest.file) == ("pkg.main", "")
    assert frozen(store, Source.of_module("alone", cwd=str(tree)))[1] == ["alone.py"]
    assert freeze(Source.of_module("pkg.sub", cwd=str(tree)), store).manifest.module == "pkg.sub"


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("nowhere.main", "-m nowhere.main: there is no such module in"),
        ("pkg.nope", "has no such module"),
        ("pkg/main.py", "that is not the name of a module"),
    ],
)
def test_modules_that_are_none(store: FileStore, tree: Path, module: str, message: str) -> None:
    files(tree, pkg___init_py="", pkg__main_py="")
    with pytest.raises(WorkflowError) as raised:
        freeze(Source.of_module(module, cwd=str(tree)), store)
    assert message in str(raised.value)


def test_no_deploy_refers_to_the_original(store: FileStore, tree: Path) -> None:
    files(tree, wf_py=HEAD + "import a", a_py="")
    bundle, names = frozen(store, Source.file(tree / "wf.py", deploy=False))
    assert names == []
    assert (bundle.manifest.file, bundle.manifest.paths) == (f"{tree}/wf.py", [str(tree)])


def test_a_source_is_found_again_by_its_text(tree: Path) -> None:
    files(tree, wf_py=HEAD)
    for source in (Source.file("wf.py", cwd=str(tree)), Source.of_module("wf", cwd=str(tree))):
        assert Source.again(source.text, source.function, cwd=source.cwd) == source
        assert source.exists()
    assert not Source.file("gone.py", cwd=str(tree)).exists()
    assert not Source.of_module("gone", cwd=str(tree)).exists()
    assert Source.again(Source(pickled=b"x").text) is None


@orch.workflow
def here(n: int = 1) -> int:
    return n


def test_a_workflow_of_a_module_is_found_in_its_file() -> None:
    source = Source.of(here)
    assert (source.path, source.function) == (__file__, "here")
    assert Source.of(source) is source


def test_a_workflow_inside_a_function_is_pickled(store: FileStore) -> None:
    @orch.workflow
    def inside() -> int:
        return 1

    bundle = freeze(Source.of(inside), store)
    assert bundle.manifest.pickled
    assert store.exists(f"bundles/{bundle.digest}/workflow.pickle")


def test_a_workflow_that_cannot_be_pickled() -> None:
    lock: Any = threading.Lock()

    @orch.workflow
    def inside() -> Any:
        return lock

    with pytest.raises(WorkflowError, match=r"workflow .*inside cannot be pickled: .*\['lock'\]"):
        Source.of(inside)


def test_what_is_no_workflow() -> None:
    with pytest.raises(WorkflowError, match=r"is no workflow: decorate a function with @orch\.workflow"):
        Source.of(lambda: 1)
