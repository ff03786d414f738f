"""`make fuzz`: odd inputs by the thousand, each of which must end in the right answer or in one line.

Usage: python -m theriac.tests.fuzz [--count N] [--first SEED] [--kind KIND ...] [--workers N] [--seconds S]
"""

from __future__ import annotations

import argparse
import collections
import re
import sys
from collections.abc import Sequence

from .cases import Verdict
from .pool import KINDS, MOST_SECONDS, Job, judged_jobs

COUNT = 300
"""Inputs of each kind."""


def main(arguments: Sequence[str]) -> int:
    """Try the inputs, and print the counts and what failed; 1 if anything did."""
    parser = argparse.ArgumentParser(prog="python -m theriac.tests.fuzz")
    parser.add_argument("--count", type=int, default=COUNT, help="inputs of each kind")
    parser.add_argument("--first", type=int, default=0, help="seed of the first of each kind")
    parser.add_argument("--kind", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=MOST_SECONDS, help="what an input may take")
    parser.add_argument("--verbose", action="store_true", help="print every input and its end")
    given = parser.parse_args(arguments)
    jobs = [(kind, seed) for kind in given.kind for seed in range(given.first, given.first + given.count)]
    found: list[tuple[Job, Verdict]] = []
    for job, verdict in judged_jobs(jobs, workers=given.workers, seconds=given.seconds):
        found.append((job, verdict))
        if given.verbose or (verdict.result == "failed" and sys.stderr.isatty()):
            sys.stderr.write(f"{job[0]} {job[1]}: {verdict.result}: {verdict.detail} [{verdict.shown}]\n")
    sys.stdout.write(report(found))
    return int(any(verdict.result == "failed" for _, verdict in found))


def report(found: Sequence[tuple[Job, Verdict]]) -> str:
    """A table of counts by kind, the slowest and the largest, and each distinct failure with its seeds."""
    lines = [f"{'kind':12} {'inputs':>6} {'right':>6} {'refused':>7} {'failed':>6}  slowest  memory"]
    kinds = dict.fromkeys(
        kind for (kind, _), _ in sorted(found, key=lambda one: list(KINDS).index(one[0][0]))
    )
    for kind in [*kinds, "all"]:
        own = [verdict for (name, _), verdict in found if kind in (name, "all")]
        counts = collections.Counter(verdict.result for verdict in own)
        slowest = max((one.seconds for one in own), default=0.0)
        most = max((one.grown for one in own), default=0) >> 20
        numbers = f"{len(own):6} {counts['right']:6} {counts['refused']:7} {counts['failed']:6}"
        lines.append(f"{kind:12} {numbers}  {slowest:5.1f} s  {most} MiB")
    return "\n".join([*lines, *_failures(found)]) + "\n"


def _failures(found: Sequence[tuple[Job, Verdict]]) -> list[str]:
    groups: dict[tuple[str, str], list[tuple[int, Verdict]]] = {}
    for (kind, seed), verdict in found:
        if verdict.result == "failed":
            groups.setdefault((kind, signature(verdict.detail)), []).append((seed, verdict))
    lines = [f"distinct failures: {len(groups)}"] if groups else []
    for (kind, _), members in sorted(groups.items(), key=lambda one: (one[0][0], -len(one[1]))):
        seeds = ", ".join(str(seed) for seed, _ in sorted(members, key=lambda one: one[0])[:12])
        lines += [f"\n{kind}, {len(members)} times (seeds {seeds}): {members[0][1].detail}"]
        lines += [f"    {verdict.shown}" for _, verdict in members[:3] if verdict.shown]
    return lines


def signature(detail: str) -> str:
    """What failures of one sort have in common: the words without values."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|\S*/\S*/\S*|\d+", "_", detail)[:90]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
