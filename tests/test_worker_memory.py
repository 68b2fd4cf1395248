"""Whether the kernel has killed something for want of memory, as control groups tell it."""

from __future__ import annotations

from pathlib import Path

from orch.worker.memory import kills


def made(root: Path, cgroup: str, **files: str) -> tuple[str, str]:
    """/proc/self/cgroup, and the mounts, with these files."""
    proc = root / "cgroup"
    proc.write_text(cgroup, encoding="utf-8")
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return str(proc), str(root)


def test_version_2(tmp_path: Path) -> None:
    events = "low 0\nhigh 3\nmax 17\noom 2\noom_kill 1\noom_group_kill 0\n"
    assert kills(*made(tmp_path, "0::/job/1\n", job__1__memory_dot_events=events)) == 1


def test_version_1(tmp_path: Path) -> None:
    control = "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"
    groups = "12:cpu,cpuacct:/job\n7:memory:/slurm/uid_1/job_2\n1:name=systemd:/\n0::/\n"
    assert kills(*made(tmp_path, groups, memory__slurm__uid_1__job_2__memory_dot_oom_control=control)) == 4


def test_where_nothing_is_counted(tmp_path: Path) -> None:
    assert kills(*made(tmp_path, "0::/\n", memory_dot_events="oom_kill 3\n")) == 0
    assert kills(*made(tmp_path, "0::/a\n", a__memory_dot_events="oom_kill many\n")) == 0
    assert kills(str(tmp_path / "nowhere"), str(tmp_path)) == 0
    assert kills() >= 0
