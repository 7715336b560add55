"""A pure function mapped over jobs: in this process, over a pool of processes, or over a Ray cluster.

A worker that dies, as one may that reads a damaged file or is taken by the system, costs nothing but time: what it was
working on is done again, in the end one part at a time, so that whatever ends workers is found and named.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from .errors import UnavailableError, VoiceCloneError

J = TypeVar("J")
R = TypeVar("R")
Done = Iterator[tuple[J, R | None]]  # the result is None where a job ended every worker that tried it

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
AHEAD = 2  # jobs a worker that are handed out: one to do and one to go on with
OBJECT_STORE = 100 * 2**20  # bytes, of a Ray cluster that is started here: results are small


class Mapping(ABC):
    """Maps a function over jobs; to be used in a ``with`` block."""

    workers: int  # at once

    def __enter__(self) -> Mapping:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def map(self, function: Callable[[J], R], jobs: Iterable[J], split: Callable[[J], Iterable[J]]) -> Done:
        """Do the jobs.

        Parameters
        ----------
        function : callable
            Pure: it may be called again for a job whose worker died.
        jobs : iterable
        split : callable
            Parts of a job, each to be done alone when the job ended its worker.

        Yields
        ------
        job, result
            In the order in which they are done; None in the place of a part's result that ended its worker alone.
        """
        lost = []
        for job, result in self._map(function, jobs, AHEAD * self.workers):
            if result is None:
                lost.append(job)
            else:
                yield job, result
        yield from self._map(function, (part for job in lost for part in split(job)), 1)

    @abstractmethod
    def _map(self, function: Callable[[J], R], jobs: Iterable[J], most: int) -> Done:
        """Do the jobs, at most so many at once; None for those that were under way when a worker died."""

    @abstractmethod
    def close(self) -> None:
        """Let the workers go."""


class _Here(Mapping):
    workers = 1

    def _map(self, function: Callable[[J], R], jobs: Iterable[J], most: int) -> Done:
        for job in jobs:
            yield job, function(job)

    def close(self) -> None:
        pass


class _Pool(Mapping):
    """A pool of processes of one thread each, begun anew when one of them dies."""

    def __init__(self, workers: int | None) -> None:
        self.workers = workers or os.cpu_count() or 1
        self.pool = self._begun()

    def _begun(self) -> ProcessPoolExecutor:
        # Not forked: what this process has begun, such as threads that compute, may hang in a fork.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.workers, mp_context=context, initializer=_one_thread)

    def _map(self, function: Callable[[J], R], jobs: Iterable[J], most: int) -> Done:
        waiting, running = deque(jobs), {}
        while waiting or running:
            try:
                while waiting and len(running) < most:
                    running[self.pool.submit(function, waiting[0])] = waiting[0]
                    waiting.popleft()
                done = wait(running, return_when=FIRST_COMPLETED).done
            except BrokenProcessPool:  # found while handing out: the jobs under way will say so too
                done = wait(running).done
            broken = False
            for future in done:
                job, result = running.pop(future), _result(future)
                broken |= result is None
                yield job, result
            if broken or not done:
                yield from ((job, _result(future)) for future, job in running.items())
                running = {}
                self.pool.shutdown(wait=True)
                self.pool = self._begun()

    def close(self) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)


def _result(future: Future) -> Any:
    try:
        return future.result()
    except BrokenProcessPool:
        return None


def _one_thread() -> None:
    """One core a process, and Ctrl-C is the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(dict.fromkeys(THREADS, "1"))
    if "torch" in sys.modules:  # the script that began all this imports it, and so it has not seen the above
        sys.modules["torch"].set_num_threads(1)


class _Ray(Mapping):
    """Tasks of one core each on a Ray cluster, which does those of a dead worker or machine again by itself."""

    def __init__(self, workers: int | None, address: str | None) -> None:
        try:
            import ray
        except ImportError as error:
            raise UnavailableError(
                "The engine 'ray' needs Ray, which is not installed. Run: pip install 'voiceclone[cluster]'"
            ) from error
        self.ray = ray
        address = address or os.environ.get("RAY_ADDRESS")
        self.begun = not ray.is_initialized()
        if self.begun:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else it tells its makers of every cluster
            own = {"num_cpus": workers, "object_store_memory": OBJECT_STORE, "include_dashboard": False}
            ray.init(address=address, log_to_driver=False, **({} if address else own))
        self.workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))

    def _map(self, function: Callable[[J], R], jobs: Iterable[J], most: int) -> Done:
        remote = self.ray.remote(num_cpus=1)(function)
        waiting, running = deque(jobs), {}
        while waiting or running:
            while waiting and len(running) < most:
                job = waiting.popleft()
                running[remote.remote(job)] = job
            (done,), _ = self.ray.wait(list(running), num_returns=1)
            job = running.pop(done)
            try:
                yield job, self.ray.get(done)
            except self.ray.exceptions.RayTaskError:
                raise  # the function's own error
            except self.ray.exceptions.RayError:
                yield job, None

    def close(self) -> None:
        if self.begun:
            self.ray.shutdown()


ENGINES: Sequence[str] = ("processes", "ray", "none")


def engine_named(name: str, *, workers: int | None = None, address: str | None = None) -> Mapping:
    """Make what maps ready.

    Parameters
    ----------
    name : str
        One of `ENGINES`.
    workers : int or None
        How many at once; None is one a core, or as many as the cluster has.
    address : str or None
        Of a Ray cluster; None starts one here.

    Raises
    ------
    VoiceCloneError
        If there is no such engine.
    UnavailableError
        If it is not installed.
    """
    if workers is not None and workers < 1:
        raise VoiceCloneError(f"workers={workers} must be at least 1, or None for as many as there are cores.")
    if name == "ray":
        return _Ray(workers, address)
    if name not in ENGINES:
        raise VoiceCloneError(f"There is no engine {name!r}. Choose one of: {', '.join(ENGINES)}.")
    return _Here() if name == "none" or workers == 1 else _Pool(workers)
