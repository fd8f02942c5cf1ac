"""Working ahead: the next items are prepared in threads while the caller works."""

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

Item = TypeVar("Item")


def read_ahead(items: Iterator[Item], depth: int) -> Generator[Item, None, None]:
    """Yield the same items in the same order, up to `depth` of them prepared beforehand in one thread.

    An error in the thread is raised here, in the place of the item that it prevented. When this iterator
    ends, is closed or is no longer referred to, so does the thread, at most one item later.
    """
    end: Any = object()
    with contextlib.closing(in_threads(itertools.repeat(partial(next, items, end)), depth)) as ahead:
        yield from itertools.takewhile(lambda item: item is not end, ahead)


def in_threads(calls: Iterator[Callable[[], Item]], depth: int, threads: int = 1) -> Generator[Item, None, None]:
    """What calls return, in their order, up to `depth` of them made beforehand; see read_ahead."""
    with ThreadPoolExecutor(threads, thread_name_prefix="read-ahead") as pool:
        pending = deque(map(pool.submit, itertools.islice(calls, depth)))
        try:
            while pending:
                result = pending.popleft().result()
                pending.extend(map(pool.submit, itertools.islice(calls, 1)))
                yield result
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
