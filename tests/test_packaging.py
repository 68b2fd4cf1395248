"""What a user installs: one name, complete, with what it needs and no more."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {"orchestrator": "orch", "bus": "orch.bus", "adapters": "orch.adapters", "cli": "orch.cli"}
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def sources() -> Iterator[tuple[str, Path]]:
    """Every module: its import name and its file."""
    for folder, name in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            yield ".".join([name, *parts]).removesuffix(".__init__"), path


def imports(path: Path) -> Iterator[str]:
    """Modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield node.module or ""


def distributions(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9_.-]", requirement)[0].lower().replace("_", "-") for requirement in requirements}


def test_the_list_of_packages_matches_the_tree() -> None:
    tree = {name for name, path in sources() if path.name == "__init__.py"}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == tree


def test_every_folder_with_code_is_a_package() -> None:
    assert [str(path.parent) for _, path in sources() if not (path.parent / "__init__.py").exists()] == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy of the tree, so that nothing is left in it."""
    copy = tmp_path_factory.mktemp("source")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, copy)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(copy / "dist"), str(copy)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    (path,) = (copy / "dist").glob("*.whl")
    return zipfile.ZipFile(path)


def test_only_orch_is_importable_from_the_wheel(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    info = f"orch-{PROJECT['project']['version']}.dist-info"
    assert tops == {"orch", info}
    assert wheel.read(f"{info}/top_level.txt").decode().split() == ["orch"]
    assert "orch = orch.cli.main:main" in wheel.read(f"{info}/entry_points.txt").decode()


def test_nothing_is_missing_from_the_wheel(wheel: zipfile.ZipFile) -> None:
    modules = {
        f"{name.replace('.', '/')}{'/__init__.py' if path.name == '__init__.py' else '.py'}" for name, path in sources()
    }
    assert modules | {"orch/py.typed"} == {name for name in wheel.namelist() if name.startswith("orch/")}


def test_what_is_imported_is_declared() -> None:
    declared = distributions(PROJECT["project"]["dependencies"])
    extras = distributions([name for names in PROJECT["project"]["optional-dependencies"].values() for name in names])
    known = set(sys.stdlib_module_names) | {"orch"} | {name.replace("-", "_") for name in declared | extras}
    missing = {
        (name, module) for name, path in sources() for module in imports(path) if module.split(".")[0] not in known
    }
    assert missing == set()


def test_extras() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    assert {name: distributions(extras[name]) for name in ("s3", "ssh", "kubernetes")} == {
        "s3": {"aiobotocore"},
        "ssh": {"asyncssh"},
        "kubernetes": {"kubernetes-asyncio"},
    }
    assert extras["all"] == [f"orch[{','.join(name for name in extras if name != 'all')}]"]


@pytest.mark.parametrize(
    ("part", "allowed"),
    [
        ("orch.bus", ("orch.bus",)),
        (
            "orch.state",
            (
                "orch.state",
                "orch.bus",
                "orch.attempt",
                "orch.errors",
                "orch.results",
                "orch.patterns",
                "orch.adapters.contract",
            ),
        ),
        ("orch.store", ("orch.store", "orch.bus", "orch.errors", "orch.sizes")),
    ],
)
def test_parts_import_only_what_is_below_them(part: str, allowed: tuple[str, ...]) -> None:
    wrong = [
        (name, module)
        for name, path in sources()
        if name == part or name.startswith(f"{part}.")
        for module in imports(path)
        if module.split(".")[0] == "orch"
        and not any(module == known or module.startswith(f"{known}.") for known in allowed)
    ]
    assert wrong == []


def test_nobody_imports_the_command_and_adapters_do_not_know_the_leader() -> None:
    wrong = [
        (name, module)
        for name, path in sources()
        for module in imports(path)
        if (module.startswith("orch.cli") and not name.startswith("orch.cli"))
        or (module.startswith("orch.leader") and name.startswith(("orch.adapters", "orch.agent", "orch.work")))
    ]
    assert wrong == []


def test_what_runs_attempts_is_light_to_import() -> None:
    """Agents, templates and workers start quickly and hold little: of other people's code, only msgspec."""
    heavy = {
        "anyio",
        "asyncio",
        "typer",
        "rich",
        "structlog",
        "aiosqlite",
        "aiobotocore",
        "asyncssh",
        "kubernetes_asyncio",
    }
    code = "import sys, orch.work.execute, orch.store.file, orch.store.blobs, orch.agent; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert heavy & set(done.stdout.split()) == set()


# The lock --------------------------------------------------------------------------------------------------------


def test_the_lock_names_no_host_and_hashes_everything() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"https?:|file:|index-url|find-links| @ ", lock)
    pins = re.findall(r"(?m)^([a-z0-9-]+)==[^\n]*((?:\\\n    --hash=sha256:[0-9a-f]{64}\s*)+)", lock)
    assert len(pins) == len(re.findall(r"(?m)^[a-z0-9]", lock))
    pinned = {name for name, _ in pins}
    assert distributions(PROJECT["project"]["dependencies"]) <= pinned
    assert distributions(PROJECT["dependency-groups"]["dev"]) <= pinned
    assert distributions(PROJECT["build-system"]["requires"]) <= pinned
