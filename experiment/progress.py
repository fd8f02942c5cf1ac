"""Progress with rate and time left: a bar on a terminal, a plain line every few seconds elsewhere."""

import math
import sys
import time
from typing import Any, Self

from tqdm import tqdm

PLAIN_INTERVAL = 10.0  # seconds between lines where there is no terminal


class Progress:
    """`with Progress("training V", total=5000, unit="batches") as bar: bar.update(1, note="loss 12.3")`.

    done: how much an earlier, interrupted run had done; counted in the total, not in the rate.
    """

    def __init__(self, title: str, total: int, unit: str, done: int = 0):
        self.terminal = sys.stderr.isatty()
        self.title, self.total, self.unit, self.done, self.first = title, total, unit, done, done
        self.began = self.printed = time.monotonic()
        self.note = ""
        form = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}"
        self.bar = tqdm(
            total=total, initial=done, desc=title, bar_format=form, unit_scale=total >= 100_000, dynamic_ncols=True,
            leave=True, disable=not self.terminal,
        )  # fmt: skip

    def update(self, amount: int, note: str = "") -> None:
        """Count `amount` more as done; `note` is shown behind the figures."""
        self.done += amount
        self.note = note or self.note
        if self.terminal:
            # The rate is last: where 80 columns are too few, the end is cut off.
            self.bar.set_postfix_str(", ".join(filter(None, [self.left(), self.note, self.rate()])), refresh=False)
            self.bar.update(amount)
        elif time.monotonic() - self.printed >= PLAIN_INTERVAL:
            self.printed, share = time.monotonic(), 100 * self.done / max(self.total, 1)
            done = f"{self.done:,}/{self.total:,} {self.unit} ({share:.0f} %)"
            self.show(done, self.rate(), self.left(), self.note)

    def say(self, text: str) -> None:
        """Print a line without breaking the bar."""
        self.bar.write(text)
        sys.stdout.flush()

    def show(self, *parts: str) -> None:
        """Print what the bar would show, as plain text."""
        print(f"{self.title}: {', '.join(filter(None, parts))}", flush=True)

    def rate(self) -> str:
        """Units a second since this process began; where that is less than one, how long each takes."""
        done, seconds = self.done - self.first, max(time.monotonic() - self.began, 1e-9)
        if 0 < done < seconds:
            return f"{duration(seconds / done) if seconds > 100 * done else f'{seconds / done:.3g} s'} each"
        rate = done / seconds
        return f"{rate:,.0f} {self.unit}/s" if rate > 100 else f"{rate:.3g} {self.unit}/s"

    def left(self) -> str:
        """The time left at this rate."""
        seconds = (time.monotonic() - self.began) * (self.total - self.done) / max(self.done - self.first, 1e-9)
        return f"{duration(seconds)} left" if self.done > self.first else "? left"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        self.bar.close()
        if kind is None and not self.terminal:
            spent = duration(time.monotonic() - self.began)
            self.show(f"{self.done:,} {self.unit} in {spent}", self.rate(), self.note)


def duration(seconds: float) -> str:
    """Seconds in words: '45 s', '3 min 20 s', '2 h 5 min', '3 days 4 h'."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s" if seconds % 60 else f"{seconds // 60} min"
    if seconds < 2 * 86400:
        return f"{seconds // 3600} h {seconds % 3600 // 60} min"
    return f"{seconds // 86400} days {seconds % 86400 // 3600} h"


def percent(share: float) -> str:
    """A share as '12%'; 'none' where it is NaN, as of nothing."""
    return "none" if math.isnan(share) else f"{share:.0%}"
