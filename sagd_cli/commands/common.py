"""Options that all commands have, options that several have, and helpers for commands."""

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import typer
from pydantic import BeforeValidator, Field, FiniteFloat, TypeAdapter, ValidationError
from typer.core import TyperGroup
from typer.models import ParameterInfo

from sagd_cli.errors import PluginError, UsageError
from sagd_cli.spectral.band import band_forms
from sagd_cli.system.console import Output, output, use_output
from sagd_cli.system.environment import rank, world_size
from sagd_cli.system.files import refuse_inputs
from sagd_cli.system.redirection import stdout_for_results

if TYPE_CHECKING:
    import torch

    from sagd_cli.system.distributed import World

_PANEL = "Common options"
_COMMON = {
    "as_json": Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output.", rich_help_panel=_PANEL)
    ],
    "quiet": Annotated[
        bool, typer.Option("--quiet", "-q", help="Warnings and errors only.", rich_help_panel=_PANEL)
    ],
    "verbose": Annotated[bool, typer.Option("--verbose", "-v", help="Say more.", rich_help_panel=_PANEL)],
    "debug": Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=_PANEL)
    ],
}

DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace an existing output.")]
EmaOption = Annotated[
    int | None,
    typer.Option(
        "--ema",
        min=1,
        metavar="IMAGES",
        help="Half-life of the averaged weights to use; the run's first by default.",
    ),
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="K/N",
        help="Do share K of N alone: N such commands, on one machine or on many, do the whole.",
    ),
]
ConfigOption = Annotated[
    str | None,
    typer.Option("--config", metavar="FILE.yaml", help="Configuration file; - reads standard input."),
]
PresetOption = Annotated[
    str | None, typer.Option("--preset", help="Start from a preset: `sagd config show --list`.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set any key, for example training.learning_rate=1e-3."),
]
BAND_HELP = f"{band_forms()}; join with +."
NOISE_HELP = (
    "BAND, filter (white, powerlaw:alpha=-1, FILE.yaml) or from:PATH (measured), with :level=F; join with +."
)
RangeOption = Annotated[
    str | None,
    typer.Option(
        "--range",
        metavar="LO:HI",
        help="Values of black and white; else those of the type, [0, 1] for floats that lie there, or found.",
    ),
]
AutoencoderOption = Annotated[
    Path | None,
    typer.Option(
        "--autoencoder",
        metavar="DIR",
        help="Folder of the autoencoder that decodes a run's latents; by default the one its data name.",
    ),
]
PlotOption = Annotated[
    Path | None, typer.Option("--plot", metavar="FILE.png|FILE.svg", help="Also draw a figure.")
]
OutputFile = Annotated[Path | None, typer.Option("--output", help="File to write.")]


def announced_device(name: str) -> "torch.device":
    """Return the device for `name`, and print a note that names it for auto, or a warning where a GPU is of no use.

    On the CPU, also let the process keep freed memory.
    """
    from sagd_cli.system.devices import choose_device, keep_freed_memory
    from sagd_cli.system.gpus import unusable_gpu

    chosen = choose_device(name)
    if chosen.type == "cpu":
        keep_freed_memory()
    if name == "auto" and (why := unusable_gpu()):
        output().warn(f"{why}; the CPU is used, which is many times slower. See `sagd doctor`.")
    if name == "auto":
        output().note(f"device: {chosen}")
    return chosen


@contextmanager
def working_together() -> "Iterator[World | None]":
    """Join the processes that `torchrun` has started, on the CPU; give None where this one works alone."""
    if world_size() == 1:
        yield None
        return
    import torch

    from sagd_cli.system.distributed import joined_world

    with joined_world(torch.device("cpu")) as world:
        yield world


def group(text: str) -> typer.Typer:
    """Return the Typer application of a command with sub-commands."""
    return typer.Typer(
        help=text,
        add_completion=False,
        no_args_is_help=False,
        invoke_without_command=True,
        callback=_help_without_command,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def _help_without_command(ctx: typer.Context) -> None:
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


class DefaultGroup(TyperGroup):
    """A command with sub-commands that can also be called without one: then `DEFAULT` is the sub-command."""

    DEFAULT = "default"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command before arguments that do not begin with a sub-command."""
        named = bool(args) and args[0] in self.commands and args[0] != self.DEFAULT
        return super().parse_args(ctx, args if named else [self.DEFAULT, *args])

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """Return the command. The default one has no name, so usage lines do not show it."""
        name, command, rest = super().resolve_command(ctx, args)
        return None if name == self.DEFAULT else name, command, rest


def refuse_given(why: str, options: dict[str, Any]) -> None:
    """Raise UsageError when any of `options` (values by option name) is given; `why` begins the message."""
    given = [name for name, value in options.items() if value not in (None, []) and value is not False]
    if given:
        raise UsageError(f"{why}, so {', '.join(given)} cannot be had with it")


def refuse_read(outputs: Mapping[str, Path | None], sources: Iterable[str | Path | None]) -> None:
    """Raise UsageError when an output, by its option, is read by the command or is another output.

    `sources` are the arguments that name what is read: DATA, filters, runs and files.
    """
    refuse_inputs(outputs, (file for source in sources if source is not None for file in _files(str(source))))


def _files(source: str) -> Iterator[Path]:
    from sagd_cli.config.arguments import is_path, parse_dataset
    from sagd_cli.datasets.loading import dataset_files
    from sagd_cli.run.manifest import has_run, run_files

    if is_path(Path.is_file, source):
        yield Path(source)
    elif is_path(has_run, source):
        yield from run_files(Path(source))
    else:
        with suppress(UsageError):  # a family of filters, for example, is no data set
            yield from dataset_files(parse_dataset(source))


def single() -> typer.Typer:
    """Return the Typer application of a command without sub-commands."""
    return typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})


def common(function: Callable[..., None]) -> Callable[..., None]:
    """Return the command with the common options added; they set the Output before it runs.

    Its numbers are read by `_number_reader`. Standard output is left to its results; what else is printed, by plug-ins
    for example, goes to standard error.
    """

    @functools.wraps(function)
    def command(*, as_json: bool, quiet: bool, verbose: bool, debug: bool, **arguments: Any) -> None:
        with stdout_for_results() as results:
            others = rank() > 0  # another process speaks for all
            use_output(
                Output(json=as_json, quiet=quiet, verbose=verbose, debug=debug, mute=others, results=results)
            )
            try:
                function(**arguments)
            except SystemExit as error:  # only the code of a plug-in does this
                raise PluginError(f"a plug-in ended the command with exit code {error.code}") from error

    own = inspect.signature(function).parameters.values()
    for parameter in own:
        _read_numbers(parameter.annotation)
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
        for name, annotation in _COMMON.items()
    ]
    keyword_only = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    command.__signature__ = inspect.Signature([*keyword_only, *shared])  # type: ignore[attr-defined]
    command.__annotations__ = {**function.__annotations__, **_COMMON}
    return command


def _read_numbers(annotation: Any) -> None:
    """Give an option or argument of int, float or None the reader of such numbers."""
    kind, *extra = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    numbers = [each for each in get_args(kind) or (kind,) if each in _NUMBERS]
    for info in extra:
        if len(numbers) == 1 and isinstance(info, ParameterInfo):
            info.parser = _number_reader(numbers[0], info.min, info.max)


def _number_reader(kind: type, least: float | None, most: float | None) -> Callable[[Any], Any]:
    """Return what reads a number of `kind`, from `least` to `most`, as a person types it.

    A whole number may be written as 1e6. NaN and infinity are refused.
    """

    @functools.cache
    def adapter() -> TypeAdapter[Any]:
        bounded: Any = Annotated[_NUMBERS[kind], Field(ge=least, le=most)]
        return TypeAdapter(bounded)

    def read(value: Any) -> Any:
        try:
            return adapter().validate_python(value)
        except ValidationError as error:
            raise typer.BadParameter(error.errors()[0]["msg"]) from None

    return read


def _float_of_power(value: Any) -> Any:
    with suppress(ValueError):
        return float(value) if isinstance(value, str) and "e" in value.lower() else value
    return value


_NUMBERS: dict[type, Any] = {int: Annotated[int, BeforeValidator(_float_of_power)], float: FiniteFloat}
