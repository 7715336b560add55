"""Mapping over workers: every job once, whatever becomes of the workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from voiceclone.errors import VoiceCloneError
from voiceclone.mapping import ENGINES, engine_named


def halves(job: tuple) -> list[tuple]:
    return [(number,) for number in job]


def squares(job: tuple) -> list[int]:
    return [number**2 for number in job]


def deadly(job: tuple) -> list[int]:
    """Three ends the process."""
    if 3 in job:
        os.kill(os.getpid(), signal.SIGKILL)
    return squares(job)


def deadly_once(job: tuple[Path, int]) -> int:
    mark, number = job
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2


def threads(job: int) -> tuple[int, str]:
    import torch

    return torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]


def test_all_jobs_are_done_here():
    with engine_named("none") as mapping:
        assert list(mapping.map(squares, [(1, 2), (3,)], halves)) == [((1, 2), [1, 4]), ((3,), [9])]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_pool_loses_nothing_but_what_ends_its_workers():
    jobs = [(0, 1), (2, 3), (4, 5), (6,)]
    with engine_named("processes", workers=2) as mapping:
        done = dict(mapping.map(deadly, jobs, halves))
        again = dict(mapping.map(squares, jobs, halves))  # the pool is whole again
    found = {n: square for job, result in done.items() if result for n, square in zip(job, result, strict=True)}
    assert found == {number: number**2 for number in range(7) if number != 3}
    assert done[(3,)] is None
    assert again == {job: squares(job) for job in jobs}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_worker_that_is_killed_costs_only_time(tmp_path):
    jobs = [(tmp_path / "mark", number) for number in range(6)]
    with engine_named("processes", workers=2) as mapping:
        done = dict(mapping.map(deadly_once, jobs, lambda job: [job]))
    assert done == {job: job[1] ** 2 for job in jobs} and (tmp_path / "mark").exists()


def test_workers_compute_with_one_thread_each():
    with engine_named("processes", workers=2) as mapping:
        assert [result for _, result in mapping.map(threads, [0], lambda job: [job])] == [(1, "1")]


def test_an_unknown_engine_names_the_known_ones():
    with pytest.raises(VoiceCloneError, match=", ".join(ENGINES)):
        engine_named("threads")
    with pytest.raises(VoiceCloneError, match="workers=0 must be at least 1"):
        engine_named("processes", workers=0)
