"""Errors that a person at the terminal can act on: one sentence, a hint and an exit code (docs/cli.md)."""

from collections.abc import Iterable
from difflib import get_close_matches


class SagdError(Exception):
    """Work failed for a reason the user can understand; `message` is one sentence, `hint` says what to do."""

    exit_code = 1
    code = "failed"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SagdError):
    """The command was called wrongly: a bad option, path or combination."""

    exit_code = 2
    code = "usage"


class ConfigError(UsageError):
    """A configuration, filter file or option value is not valid."""

    code = "config"


class PluginError(UsageError):
    """A plug-in is missing, broken or in conflict."""

    code = "plugin"


class DataError(SagdError):
    """An image, array or data set cannot be read or does not fit."""

    code = "data"


class UnreadableError(DataError):
    """Some images of a data set cannot be read; others can be."""


class CheckpointError(SagdError):
    """A run or checkpoint is damaged or was made for something else."""

    code = "checkpoint"


class DivergedError(SagdError):
    """The loss or the gradient of a training is no longer finite."""

    def __init__(self, step: int, learning_rate: float) -> None:
        """Make the message from the step and its learning rate."""
        super().__init__(
            f"the loss or its gradient is not finite at step {step} (learning rate {learning_rate:g})",
            "Lower the learning rate with --lr.",
        )


class GateError(SagdError):
    """A figure did not meet the bound the user set."""

    exit_code = 3
    code = "gate"


class Interrupted(SagdError):
    """The work was stopped by a signal after its state was saved."""

    code = "interrupted"

    def __init__(self, signum: int, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.exit_code = 128 + signum


class FollowedError(SagdError):
    """Another process failed, and tells why: this one ends with the same exit code and says nothing."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("another process failed")
        self.exit_code = exit_code


MOST_NAMES = 30


def suggest(name: str, known: Iterable[str]) -> str:
    """Return a hint with the known names most similar to `name`; without any, with all of them (30 at most)."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        return f"Did you mean {' or '.join(near)}?"
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"Known: {', '.join(names[:MOST_NAMES])}{more}." if names else ""
