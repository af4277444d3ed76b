"""Several devices of one fingerprint that share a piece of work, and may be lost in the middle of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from edgeprune.errors import EdgePruneError, MissingError, TableError
from edgeprune.latency.bench import Bench
from edgeprune.progress import SILENT, Progress

T = TypeVar("T")


class BenchGroup:
    """Benches whose measurements may stand in one table; those that are lost leave it.

    Args:
        benches: at least one; opened and closed by who makes the group.
    """

    def __init__(self, benches: Sequence[Bench]) -> None:
        self._benches = list(benches)

    @property
    def first(self) -> Bench:
        """The first bench that is still there."""
        return self._benches[0]

    @property
    def all(self) -> Sequence[Bench]:
        """The benches that are still there."""
        return tuple(self._benches)

    def check(self) -> None:
        """Read every fingerprint.

        Raises:
            TableError: they are not all the same.
            MissingError: a device can't be reached.
        """
        first = self.first.fingerprint()
        for other in self._benches[1:]:
            differences = first.differences(other.fingerprint())
            if differences:
                name, (here, there) = next(iter(differences.items()))
                raise TableError(
                    f"{self.first.device.name} and {other.device.name} can't share a table: {name} is {here!r} on the"
                    f" one and {there!r} on the other",
                    remedy="name one of them, or devices that are alike",
                )

    def share(self, works: Iterable[Callable[[], Callable[[Bench], T]]], progress: Progress = SILENT) -> Iterator[T]:
        """Do every work on some bench, one at a time on each, and yield what comes out as it comes.

        A work is prepared in the calling thread when its turn comes, and done on the bench in another. What a bench did
        not finish that was lost, or that is too busy, goes to another.

        Raises:
            MissingError, TableError: no bench is left; what the last one raised.
        """
        waiting = deque(works)
        if len(self._benches) == 1:
            yield from (work()(self.first) for work in waiting)
            return
        running: dict[Future[T], tuple[Bench, Callable[[], Callable[[Bench], T]]]] = {}
        threads = ThreadPoolExecutor(len(self._benches))
        try:
            while waiting or running:
                busy = [bench for bench, _ in running.values()]
                for bench in [one for one in self._benches if one not in busy][: len(waiting)]:
                    work = waiting.popleft()
                    running[threads.submit(work(), bench)] = (bench, work)
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    bench, work = running.pop(done)
                    try:
                        yield done.result()
                    except (MissingError, TableError) as error:
                        self._lose(bench, error, progress)
                        waiting.appendleft(work)
        finally:
            for bench, _ in running.values():
                bench.close()  # so that its thread ends
            threads.shutdown(wait=False, cancel_futures=True)

    def _lose(self, bench: Bench, error: EdgePruneError, progress: Progress) -> None:
        if len(self._benches) == 1:
            raise error
        self._benches.remove(bench)
        progress.say(f"going on without {bench.device.name}: {error.message}")
