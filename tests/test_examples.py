"""The examples do what they say, and lose nothing when they are killed."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path

from support.command import log_directory, orch, running, until

from orch.bus.events import Succeeded

EXAMPLES = Path(__file__).parent.parent / "examples"


def python_files(root: Path, count: int) -> None:
    """Some files with words, in directories with odd names."""
    chance = random.Random(7)
    words = ["alpha", "Beta", "gamma_delta", "x", "über", "self"]
    for number in range(count):
        directory = root / f"päckage {number % 7}"
        directory.mkdir(parents=True, exist_ok=True)
        text = " ".join(chance.choices(words, k=50 + number))
        (directory / f"module {number}.py").write_text(text, encoding="utf-8")


def expected(root: Path) -> dict[str, object]:
    """The same in one process, with no orch in it."""
    counts: Counter[str] = Counter()
    files = list(root.rglob("*.py"))
    for file in files:
        counts.update(word.lower() for word in re.findall(r"[A-Za-z]{2,}", file.read_text(encoding="utf-8")))
    top = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:20]
    return {
        "files": len(files),
        "words": sum(counts.values()),
        "different": len(counts),
        "top": [list(item) for item in top],
    }


def test_word_count(tmp_path: Path) -> None:
    python_files(tmp_path / "tree", 61)
    options = ["--root", str(tmp_path / "tree"), "--files-per-job", "3"]
    done = orch("run", "--quiet", EXAMPLES / "wordcount.py", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected(tmp_path / "tree")


def test_word_count_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = orch("run", "--quiet", EXAMPLES / "wordcount.py", "--root", tmp_path / "empty", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"files": 0, "words": 0, "different": 0, "top": []}


async def test_merge_sort_survives_its_leader(tmp_path: Path) -> None:
    chance = random.Random(3)
    lines = ["".join(chance.choices("abc äöü\t", k=chance.randrange(30))) for _ in range(3000)]
    (tmp_path / "big text.txt").write_text("\n".join(lines), encoding="utf-8")
    store = tmp_path / "s"
    own: list[str | Path] = ["--run-id", "r", "--quiet", "--store", store]
    options: list[str | Path] = ["--path", tmp_path / "big text.txt", "--lines-per-job", "100"]
    with running("run", *own, EXAMPLES / "mergesort.py", *options, cwd=tmp_path) as process:
        await until(log_directory(store, "r"), lambda event: isinstance(event, Succeeded) and event.job > 5)
        process.kill()
        process.wait()
    done = orch("replay", "r", "--restart", "--quiet", "--out", tmp_path / "out", "--store", store, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    final = Path(json.loads(done.stdout))
    assert final.parent == tmp_path / "out"
    assert final.read_bytes() == b"".join(sorted(f"{line}\n".encode() for line in lines))


def test_programs(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("b\na\nb\nc\nb\na\n")
    done = orch("run", "--quiet", EXAMPLES / "commands.py", "--path", "notes.txt", "--top", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout).split() == ["3", "b", "2", "a"]
