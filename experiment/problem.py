"""The one exception that a user is meant to see."""


class Problem(Exception):
    """A mistake or fault that the user can mend; a command shows it as one line, never as a traceback.

    The message says what is wrong, names the file, key or shape at fault, and says what to do.
    """

    exit_code = 1

    def _render_traceback_(self) -> list[str]:
        """As a notebook shows it: one line, as a command does."""
        return [f"error: {self}"]


class UsageProblem(Problem):
    """A mistake in the command or its settings, found before any work began."""

    exit_code = 2
