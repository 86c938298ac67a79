"""Files that appear whole or not at all."""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sagd_cli.errors import DataError, SagdError, UsageError
from sagd_cli.system.console import output

_TEMPORARY = ".sagd-"
_OLD = f"{_TEMPORARY}old-"  # before the name of a folder, or of a link to one, while it is replaced


def has_suffix(path: Path | str, *suffixes: str) -> bool:
    """Whether the name ends in one of `suffixes`, such as ".npy", in capital letters or not."""
    return Path(path).suffix.lower() in suffixes


def real_path(path: Path | str) -> str:
    """Return what all spellings of a path have in common; the file itself may be a link."""
    return str(Path(path).parent.resolve() / Path(path).name)


def refuse_inputs(outputs: Mapping[str, Path | None], inputs: Iterable[Path]) -> None:
    """Raise UsageError when an output is one of the files `inputs`, or the same file as another output.

    `outputs` are the files that a command writes, by the options that name them. Files are the same under every
    spelling of a path, and through links. Raises UsageError on an output that is a folder, too. `inputs` is read only
    when an output exists.
    """
    options: dict[str | tuple[int, int], str] = {}
    for option, path in outputs.items():
        if path is None or str(path) == "-":
            continue
        if path.is_dir():
            raise UsageError(f"{path} is a folder, and {option} writes a file", "Add the file's name.")
        for place in (real_path(path), _identity(path)):
            other = option if place is None else options.setdefault(place, option)
            if other != option:
                raise UsageError(f"{other} and {option} would both be written to {path}", "Name two files.")
    if not any(isinstance(place, tuple) for place in options):
        return
    for source in inputs:
        option = options.get(_identity(source) or real_path(source), "")
        if option:
            raise UsageError(f"{outputs[option]} is where the input is", f"Choose another name for {option}.")


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what all names of an existing file have in common, None where there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def refuse_existing(path: Path, force: bool) -> None:
    """Raise UsageError when `path` exists and is no empty folder, unless `force`, and when it would lie in a file."""
    blocking = next((folder for folder in path.parents if folder.exists()), Path())
    if not blocking.is_dir():
        raise UsageError(f"{path} cannot be written: {blocking} is a file", "Choose another name.")
    if force or not path.exists():
        return
    if path.is_dir() and not any(path.iterdir()):
        return
    raise UsageError(f"{path} exists already", "Choose another name, or replace it with --force.")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; the file replaces `path` when the block ends without error.

    The data are flushed to the disk before the replacement. On any failure, `path` stays as it was and no temporary
    file is left.
    """
    handle, name = tempfile.mkstemp(prefix=_TEMPORARY, suffix=path.suffix, dir=path.parent)
    temporary = Path(name)
    _flock(handle)
    try:
        yield temporary
        sync(temporary)
        temporary.chmod(0o666 & ~_umask())  # mkstemp's own mode is private to the user
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside `path` to fill; it replaces `path` when the block ends without error.

    All else is as with `atomic_path`. A link at `path` is replaced, and what it leads to stays.
    """
    temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY, suffix=path.suffix, dir=path.parent))
    handle, old = os.open(temporary, os.O_RDONLY), path.with_name(f"{_OLD}{path.name}")
    _flock(handle)
    try:
        yield temporary
        os.sync()  # there may be a great many files in it
        temporary.chmod(0o777 & ~_umask())
        if os.path.lexists(path):
            _remove(old)
            path.rename(old)
        temporary.rename(path)
    finally:
        _settle(old)
        _remove(temporary)
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _settle(old: Path) -> None:
    """Remove `old`, if it is there, where another has its name; else give it its name back."""
    path = old.with_name(old.name.removeprefix(_OLD))
    if os.path.lexists(path):
        _remove(old)
    elif os.path.lexists(old):
        old.rename(path)


def remove_left_over(folder: Path) -> None:
    """Remove what `atomic_path` and `atomic_folder` left in `folder`, if nobody writes it any more: kills left it.

    A folder that was not replaced yet gets its name back.
    """
    for path in folder.glob(f"{_TEMPORARY}*"):
        with suppress(OSError):
            if path.name.startswith(_OLD):
                _settle(path)
                continue
            handle = os.open(path, os.O_RDONLY)
            try:
                if _flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    _remove(path)
            finally:
                os.close(handle)


def _flock(handle: int, how: int = fcntl.LOCK_EX) -> bool | None:
    """Lock an open file; return whether it is locked now, and None where its disk has no locks."""
    try:
        fcntl.flock(handle, how)
    except BlockingIOError:
        return False
    except OSError:  # Lustre without its option flock, for example
        return None
    return True


@contextmanager
def try_lock(path: Path, shared: bool = False, waits: bool = False) -> Iterator[bool]:
    """Lock the file `path` until the block ends; make it if it is missing. Give False when another process holds it.

    Those that lock it `shared` hold it together. With `waits`, wait for the others instead. On a disk without locks
    nobody holds it, and a note says so.
    """
    with path.open("ab+") as file:  # of a network's disk, to read for a shared lock, and to write for another
        how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        is_locked = _flock(file.fileno(), how if waits else how | fcntl.LOCK_NB)
        if is_locked is None:
            output().once(
                f"the disk of {shown_path(path.parent)} has no locks, so two commands that write there at once are not "
                "told apart"
            )
        yield is_locked is not False


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Lock `folder`, which is made, and removed when it is empty in the end; one that cannot be made is not locked.

    Raises UsageError where another process holds it.
    """
    made = [folder, *(path for path in folder.parents if not path.exists())]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # who writes there says so
        yield
        return
    with try_lock(folder / "lock") as is_free:
        if not is_free:
            raise UsageError("another command writes the same output", "Wait for its end.")
        try:
            yield
        finally:
            (folder / "lock").unlink(missing_ok=True)
            with suppress(OSError):
                for path in made:
                    path.rmdir()


def reason_of(error: BaseException) -> str:
    """Return the system's text of an OSError, without number and file; for other errors, their own text."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def shown_path(path: Path) -> str:
    """Return a path as text for a message; line ends and terminal codes in the name are escaped."""
    return str(path) if str(path).isprintable() else repr(str(path))


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, and make its folder if needed; raise SagdError, which names it, on failure."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SagdError(
            f"{path} could not be written: {(error.strerror or str(error)).lower()}",
            "Check the disk's space and the folder's permissions.",
        ) from error


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a JSON object as `write_text` does; raise ValueError on numbers that JSON does not have."""
    write_text(path, json.dumps(data, indent=1, allow_nan=False, default=str) + "\n")


def read_text(path: Path, largest: int) -> str:
    """Read a text file of at most `largest` characters; raise SagdError on one that cannot be read or is larger."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(largest + 1)
    except UnicodeDecodeError:
        raise SagdError(f"{path} is not a text file in UTF-8") from None
    except OSError as error:
        raise SagdError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    if len(text) > largest:
        raise SagdError(f"{path} is larger than {largest:,} characters")
    return text


def read_json(path: Path, largest: int) -> dict[str, Any]:
    """Read a JSON object as `read_text` does; raise DataError when the file holds something else."""
    text = read_text(path, largest)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise DataError(f"{path} holds no JSON object")
    return document


def append_text(path: Path, text: str) -> None:
    """Append `text` to a file, which is made if it is missing; raise SagdError, which names it, on failure."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise SagdError(f"{path} could not be written: {(error.strerror or str(error)).lower()}") from error
