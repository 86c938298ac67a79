"""The database that holds the study of a sweep: a SQLite file in its output, or one that machines share."""

import sqlite3
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sagd_cli.errors import UsageError

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

STUDY = "study.sqlite3"
SQLITE_PATIENCE = 60.0  # seconds to wait for a SQLite file that another process writes to
OPENED = 3  # times to try: of several processes that make the tables of a new database at once, one succeeds


def open_storage(url: str | None, output: Path) -> "RDBStorage":
    """Open the database at `url`; None stands for the file in the folder `output`."""
    import optuna
    from sqlalchemy.exc import DBAPIError

    # A server closes a connection that was silent for the hours of a run.
    options: dict[str, Any] = {"pool_pre_ping": True}
    if url is None:
        path = output.resolve() / STUDY
        # By a function, because an address would read ?, % and {} in the path in its own way.
        options["creator"] = lambda: sqlite3.connect(path, timeout=SQLITE_PATIENCE, check_same_thread=False)
    elif url.startswith("sqlite"):
        options["connect_args"] = {"timeout": SQLITE_PATIENCE}
    address = url or f"sqlite:///{STUDY}"
    for _ in range(OPENED - 1):
        with suppress(DBAPIError):
            return optuna.storages.RDBStorage(address, options)
        time.sleep(0.5)
    return optuna.storages.RDBStorage(address, options)


def check_storage(url: str) -> None:
    """Raise UsageError when `url` is not the address of a database, or when the driver of that database is missing."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        make_url(url).get_dialect().import_dbapi()
    except (SQLAlchemyError, ValueError):  # its message may quote a password
        raise UsageError(
            "--storage is no address of a database that SQLAlchemy knows",
            "For example sqlite:///study.sqlite3 or postgresql://HOST/NAME.",
        ) from None
    except ImportError as error:
        raise UsageError(
            f"the driver of the database of --storage is not installed: {error}",
            "For example, PostgreSQL needs `pip install psycopg2-binary`.",
        ) from None


def without_password(url: str) -> str:
    """Return an address as it may be written down: *** stands for the password."""
    from sqlalchemy.engine import make_url

    return make_url(url).render_as_string(hide_password=True)


def without_address(text: str, url: str | None) -> str:
    """Return a message without the address `url` that it may quote, which may hold a password."""
    if url is None:
        return text
    for part in filter(None, (url, url.partition("://")[2])):
        text = text.replace(part, "the storage")
    return text


@contextmanager
def quiet() -> Iterator[None]:
    """Show no warnings of SQLAlchemy and Optuna, which concern their own interfaces."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
