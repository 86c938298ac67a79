"""The entry point, and the only place where errors become exit codes."""

import errno
import io
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from typer import Abort, TyperException

from sagd_cli.errors import SagdError, UsageError
from sagd_cli.system.console import Output, output, use_output

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong use, 3 gate not met, 130 or 143 stopped by a signal."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    _mend_streams()
    if not (sys.stdout.isatty() or sys.stderr.isatty()):
        os.environ.setdefault("_TYPER_FORCE_DISABLE_TERMINAL", "1")  # Typer forces ANSI on some CI systems
    use_output(Output(json="--json" in arguments, debug="--debug" in arguments))
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone (`sagd ... | head`). Without this the interpreter would fail when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def _mend_streams() -> None:
    """Replace a closed stream by one that discards its text, and replace characters that a stream cannot show."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 -- lives as long as the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _run(arguments: list[str]) -> int:
    from sagd_cli.app import app

    try:
        code = int(app(arguments, prog_name="sagd", standalone_mode=False) or 0)
        # Typer turns Ctrl-C into this code without a message.
        return _failed(SagdError("interrupted"), code) if code == INTERRUPTED else code
    except BrokenPipeError:
        raise
    except Abort:
        return _failed(SagdError("interrupted"), INTERRUPTED)
    except TyperException as error:
        return _failed(_usage(error), error.exit_code)
    except SagdError as error:
        return _failed(error, error.exit_code)
    except SystemExit:
        raise
    except BaseException as error:  # a plug-in's own kind included
        return _failed(_explained(error), 1)


def _usage(error: TyperException) -> UsageError:
    context = getattr(error, "ctx", None)
    command = " ".join(context.command_path.split()) if context is not None else "sagd"
    return UsageError(error.format_message(), f"See `{command} --help`.")


def _explained(error: BaseException) -> SagdError:
    """Return an error of one sentence for an unexpected exception: the machine's (disk, memory, ...) or a bug."""
    if isinstance(error, OSError) and error.errno is not None:
        place = f": {error.filename}" if error.filename else ""
        hint = "Make room and run the command again." if error.errno == errno.ENOSPC else ""
        return SagdError(f"{error.strerror}{place}", hint)
    names = {"OutOfMemoryError", "MemoryError", "_ArrayMemoryError"}
    if type(error).__name__ in names or "DefaultCPUAllocator: can't allocate" in str(error):
        return SagdError("there is not enough memory", "Make the images, the size or the batch smaller.")
    return SagdError(
        f"internal error: {type(error).__name__}: {error}",
        "This is a bug: please report it with what --debug prints. --no-plugins shows whether a plug-in causes it.",
    )


def _failed(error: SagdError, code: int) -> int:
    if output().debug:
        traceback.print_exc()
    output().error(error)
    return code


if __name__ == "__main__":
    main()
