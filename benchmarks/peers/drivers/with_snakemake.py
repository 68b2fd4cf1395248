"""Snakemake, from the shell: a rule with a shell command that makes a file, and its default settings."""

from __future__ import annotations

from pathlib import Path

from common import AT_ONCE, Workload, beside, call, drive, fresh, killed

JOBS = """
rule all:
    input: expand("{{n}}.out", n=range({size}))
rule job:
    output: "{{n}}.out"
    shell: "{command}"
"""
CHAIN = """
rule all:
    input: "{last}.out"
rule first:
    output: "0.out"
    shell: "touch {{output}}"
rule job:
    input: lambda wildcards: f"{{int(wildcards.n) - 1}}.out"
    output: "{{n,[1-9][0-9]*}}.out"
    shell: "touch {{output}}"
"""


def command(place: Path, *options: str) -> list[str]:
    """What a user types."""
    program = [beside("snakemake"), "--quiet", "all", "--cores", str(AT_ONCE)]
    return [*program, "--directory", str(place), "--snakefile", str(place / "Snakefile"), *options]


def of(rules: str) -> Workload:
    """One run, in an empty directory."""

    def workload(size: int) -> None:
        place = fresh("snakemake")
        (place / "Snakefile").write_text(rules.format(size=size, last=size - 1, command="touch {output}"))
        call(*command(place))
        assert (place / f"{size - 1}.out").exists()

    return workload


def lives(place: Path, size: int) -> list[list[str]]:
    """Started; unlocked, and told to carry on."""
    (place / "Snakefile").write_text(JOBS.format(size=size, command="echo x >> lines; touch {output}"))
    return [command(place), command(place, "--unlock"), command(place, "--rerun-incomplete")]


if __name__ == "__main__":
    drive(None, {"jobs": of(JOBS), "chain": of(CHAIN), "one": of(JOBS), "kill": killed(lives)})
