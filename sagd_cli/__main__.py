"""The entry point, and the only place where errors become exit codes."""

import os
import sys
import traceback
from collections.abc import Sequence

from typer import Abort, TyperException

from sagd_cli.errors import FollowedError, SagdError, UsageError
from sagd_cli.system.console import Output, output, use_output
from sagd_cli.system.environment import complete_environment, rank
from sagd_cli.system.failures import foreseen, named_error
from sagd_cli.system.streams import UnwritableError, discard_output, mend_streams

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong use, 3 gate not met, 128 + N stopped by signal N."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    mend_streams()
    complete_environment()
    if not (sys.stdout.isatty() or sys.stderr.isatty()):
        os.environ.setdefault("_TYPER_FORCE_DISABLE_TERMINAL", "1")  # Typer forces ANSI on some CI systems
    use_output(Output(json="--json" in arguments, debug="--debug" in arguments))
    code = _run(arguments)
    try:
        sys.stdout.flush()
    except UnwritableError as error:
        code = code or _unwritable(error)
        discard_output()
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    from sagd_cli.app import app

    try:
        code = int(app(arguments, prog_name="sagd", standalone_mode=False) or 0)
        # Typer turns Ctrl-C into this code without a message.
        return _interrupted() if code == INTERRUPTED else code
    except Abort:
        return _interrupted()
    except TyperException as error:
        return _failed(_usage(error), error.exit_code)
    except UnwritableError as error:
        return _unwritable(error)
    except SagdError as error:
        return _failed(error, error.exit_code)
    except SystemExit:
        raise
    except BaseException as error:  # a plug-in's own kind included
        return _failed(foreseen(error) or _bug(error), 1)


def _unwritable(error: UnwritableError) -> int:
    """Report a result that cannot be written; not when its reader has gone, as in `sagd ... | head`."""
    return 1 if error.reader_left else _failed(error, error.exit_code)


def _interrupted() -> int:
    """Say so; of several processes, all of which a terminal interrupts, the first one does."""
    return _failed(FollowedError(INTERRUPTED) if _rank() > 0 else SagdError("interrupted"), INTERRUPTED)


def _usage(error: TyperException) -> UsageError:
    context = getattr(error, "ctx", None)
    command = " ".join(context.command_path.split()) if context is not None else "sagd"
    return UsageError(error.format_message(), f"See `{command} --help`.")


def _bug(error: BaseException) -> SagdError:
    return SagdError(
        f"internal error: {named_error(error)}",
        "This is a bug: please report it with what --debug prints. --no-plugins shows whether a plug-in causes it.",
    )


def _failed(error: SagdError, code: int) -> int:
    if output().debug:
        traceback.print_exc()
    if _rank() > 0:
        error.message = f"process {_rank()}: {error.message}"
    if not isinstance(error, FollowedError):
        output().error(error)
    return code


def _rank() -> int:
    """Which of several processes this is; 0 where the environment says no number, which is an error of its own."""
    try:
        return rank()
    except UsageError:
        return 0


if __name__ == "__main__":
    main()
