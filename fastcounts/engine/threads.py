"""The thread executor: kernels and decoders release the GIL, so threads are enough."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Protocol, TypeVar

from fastcounts.errors import OptionError
from fastcounts.grid import volume
from fastcounts.messages import argument
from fastcounts.plan import Block, Hole

__all__ = ["Worker", "run_threads"]

Message = TypeVar("Message")

_BATCH_PIXELS = 8 << 20
_BATCHES_PER_WORKER = 8
_WAITING = 32
"""Messages that may wait for the collector, a worker."""


class Worker(Protocol):
    """Counts blocks, in one thread."""

    def count_many(self, blocks: Iterable[Block | Hole]) -> None:
        """Count blocks; some may be asked for before those before them are counted."""

    def flush(self) -> None:
        """Hand over what has been counted."""


def run_threads(
    blocks: Iterator[Block | Hole],
    pixels: int,
    workers: int,
    hire: Callable[[Callable[[Message], None]], Worker],
) -> Generator[Message, None, None]:
    """Count blocks in threads and yield the messages of the workers as they arrive.

    Closing the iterator, or an error in any worker, stops all of them: each finishes the block
    that it is at, and no thread is left behind.

    Parameters
    ----------
    blocks : what to count; consumed under a lock, in order.
    pixels : how many pixels the blocks have together.
    workers : how many threads.
    hire : makes a worker, given the function with which it sends messages.
    """
    crew = _Crew(blocks, min(_BATCH_PIXELS, pixels // (workers * _BATCHES_PER_WORKER)), workers)
    threads: list[threading.Thread] = []
    try:
        for number in range(workers):
            thread = threading.Thread(
                target=crew.work, args=(hire,), name=f"fastcounts-{number}", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:
                raise OptionError(
                    f"{argument('workers')}: no more than {number} threads can be started: {error}"
                ) from None
            threads.append(thread)
        yield from crew.messages()
    finally:
        crew.stopped.set()
        for thread in threads:
            while thread.is_alive():
                crew.drain()
                thread.join(0.02)


class _Done:
    """A worker has ended."""


class _Failure:
    """A worker has met an error."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Crew:
    def __init__(self, blocks: Iterator[Block | Hole], batch_pixels: int, workers: int) -> None:
        self.stopped = threading.Event()
        self._blocks = blocks
        self._batch_pixels = batch_pixels
        self._lock = threading.Lock()
        self._queue: queue.Queue[object] = queue.Queue(_WAITING * workers)
        self._workers = workers

    def work(self, hire: Callable[[Callable[[Message], None]], Worker]) -> None:
        try:
            worker = hire(self.send)
            worker.count_many(self._blocks_of_one())
            if self.stopped.is_set():
                return
            worker.flush()
            self.send(_Done())
        except BaseException as error:  # noqa: BLE001  it is raised again in the caller's thread
            self.send(_Failure(error))

    def _blocks_of_one(self) -> Iterator[Block | Hole]:
        """What one worker has to count, taken from the common store as it goes."""
        while batch := self._take():
            for block in batch:
                if self.stopped.is_set():
                    return
                yield block

    def _take(self) -> list[Block | Hole]:
        """The next few blocks: at least one, and about a fair share of pixels."""
        batch: list[Block | Hole] = []
        pixels, array, each = 0, -1, 0
        with self._lock:
            for block in self._blocks:
                batch.append(block)
                if isinstance(block, Hole):
                    continue
                if block.array != array:  # the blocks of an array are alike, but for the last
                    array, each = block.array, volume(block.box)
                pixels += each
                if pixels >= self._batch_pixels:
                    break
        return batch

    def send(self, message: object) -> None:
        while not self.stopped.is_set():
            try:
                self._queue.put(message, timeout=0.1)
            except queue.Full:
                continue
            return

    def messages(self) -> Iterator[Message]:
        working = self._workers
        while working:
            message = self._queue.get()
            if isinstance(message, _Failure):
                raise message.error
            if isinstance(message, _Done):
                working -= 1
            else:
                yield message  # type: ignore[misc]

    def drain(self) -> None:
        try:
            while True:
                self._queue.get_nowait()
        except queue.Empty:
            pass
