"""What the environment of a process may lack: a home, a user's name, a sensible size of the terminal."""

import getpass
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from sagd_cli.errors import UsageError

SIZES = range(10, 10_000)  # columns or lines that a terminal may have


def variable(name: str) -> str | None:
    """Return the value of a variable of the environment; one that is empty counts as one that is not set."""
    return os.environ.get(name) or None


def world_size() -> int:
    """Return how many processes `torchrun` has started, of which this is one; 1 where it works alone.

    Raises UsageError where the environment says no number.
    """
    return _number("WORLD_SIZE", 1)


def rank() -> int:
    """Return which of the processes this is, from 0; the first one speaks for all. Raises what `world_size` raises."""
    return _number("RANK", 0) if world_size() > 1 else 0


def told_by_launcher(name: str) -> str:
    """Return a variable that `torchrun` sets for each of several processes; raise UsageError where it is not set."""
    value = variable(name)
    if value is None:
        raise UsageError(
            f"WORLD_SIZE says that there are several processes, and there is no {name}",
            "Start them with torchrun, or unset WORLD_SIZE.",
        )
    return value


def _number(name: str, missing: int) -> int:
    text = variable(name) or str(missing)
    if not (text.isascii() and text.isdecimal()):
        raise UsageError(
            f"the environment has {name}={text}, which is no number", f"Unset {name}, or use torchrun."
        )
    return int(text)


def home_folder() -> Path:
    """Return the user's home; for a user who has none, a private folder among the temporary files."""
    with suppress(RuntimeError):
        if os.environ.get("HOME") != "":  # which would be the root of the file system
            return Path.home()
    folder = Path(tempfile.gettempdir()) / f"sagd-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    # Somebody else may have made it, or a link of that name.
    return folder if folder.lstat().st_uid == os.getuid() else Path(tempfile.mkdtemp(prefix="sagd-"))


def cache_folder() -> Path:
    """Return $SAGD_CACHE, or the folder for `sagd` among the user's caches."""
    if chosen := variable("SAGD_CACHE"):
        return Path(chosen)
    return Path(variable("XDG_CACHE_HOME") or home_folder() / ".cache") / "sagd"


def complete_environment() -> None:
    """Give this process, the libraries it uses and the processes it starts what their environment lacks.

    Without a home, libraries raise or write to a folder called "~"; without a name of the user, torch.compile raises.
    """
    for name in ("COLUMNS", "LINES"):
        size = os.environ.get(name, "")
        if not (size.isdecimal() and int(size) in SIZES):
            os.environ.pop(name, None)
    if not os.environ.get("SOURCE_DATE_EPOCH", "0").isdecimal():
        del os.environ["SOURCE_DATE_EPOCH"]
    with suppress(OSError):
        os.environ["HOME"] = variable("HOME") or str(home_folder())
    try:
        getpass.getuser()
    except (KeyError, OSError):  # KeyError before Python 3.13
        os.environ["USER"] = str(os.getuid())
