"""The one exception that a user is meant to see, and how texts are shown that come from elsewhere."""

import re


def printable(text: str, keep: str) -> str:
    """Text in which signs that cannot be seen, but for those to keep, are numbers: a terminal obeys some of them."""
    return "".join(
        each if each.isprintable() or each in keep else each.encode("unicode_escape").decode() for each in text
    )


class Problem(Exception):
    """A mistake or fault that the user can mend; a command shows it as one line, never as a traceback.

    The message says what is wrong, names the file, key or shape at fault, and says what to do.
    """

    exit_code = 1

    def line(self) -> str:
        """As it is shown."""
        return f"error: {one_line(str(self))}"

    def _render_traceback_(self) -> list[str]:
        """As a notebook shows it: one line, as a command does."""
        return [self.line()]


class UsageProblem(Problem):
    """A mistake in the command or its settings, found before any work began."""

    exit_code = 2


def one_line(text: str, longest: int | None = None) -> str:
    """A text that may come from elsewhere, such as a file's name, as it can be shown: no line or escape sequence gets out.

    longest: characters after which it is cut.
    """
    line = printable(re.sub(r"\s*[\r\n]+\s*", " ", text.strip()), keep="")
    return line if longest is None or len(line) <= longest else f"{line[:longest]}..."
