"""Reading ahead: the next items of an iterator are prepared in a thread while the caller works."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")


def read_ahead(items: Iterator[Item], depth: int) -> Generator[Item, None, None]:
    """Yield the same items in the same order, up to `depth` of them prepared beforehand in one thread.

    An error in the thread is raised here, in the place of the item that it prevented. When this iterator
    ends, is closed or is no longer referred to, so does the thread, at most one item later.
    """
    end: Any = object()
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as thread:
        pending = deque(thread.submit(next, items, end) for _ in range(depth))
        try:
            while (item := pending.popleft().result()) is not end:
                pending.append(thread.submit(next, items, end))
                yield item
        finally:
            for future in pending:
                future.cancel()
