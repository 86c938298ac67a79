"""The root Typer application. Sub-commands are imported when they are called."""

import importlib
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from sagd_cli import __version__
from sagd_cli.builtin import COMMANDS


class LazyGroup(TyperGroup):
    """Lists the commands without importing them, and imports the one that is called."""

    def __init__(self, **attributes: Any) -> None:
        """Add a placeholder for each built-in command."""
        super().__init__(**attributes)
        for name, text in COMMANDS.items():
            self.add_command(TyperCommand(name, help=text))

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the built-in commands, then of those that plug-ins provide."""
        for name, command in _plugin_commands(ctx).items():
            self.commands.setdefault(name, command)
        return list(self.commands)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """Find the command that `args` starts with, and load it in place of its placeholder."""
        if args and args[0] not in COMMANDS:
            self.list_commands(ctx)
        name, command, rest = super().resolve_command(ctx, args)
        if name in COMMANDS:
            module = importlib.import_module(f"sagd_cli.commands.{name}")
            command = typer.main.get_command(module.app)
            command.name = name
        return name, command, rest


def _plugin_commands(ctx: Any) -> dict[str, Any]:
    """Return the commands of third-party plug-ins; import the registry only when there may be any."""
    from importlib.metadata import entry_points

    if not (entry_points(group="sagd") or (ctx.obj or {}).get("plugin")):
        return {}
    from sagd_cli.plugin.registry import registry

    found = registry()
    commands = {}
    for name in found.names("command"):
        commands[name] = typer.main.get_command(found.get("command", name))
        # Typer names and describes an application of one command after its function.
        commands[name].name = name
        commands[name].help = commands[name].help or found.entry("command", name).summary
    return commands


app = typer.Typer(
    name="sagd",
    cls=LazyGroup,
    invoke_without_command=True,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _version(value: bool) -> None:
    if value:
        print(f"sagd {__version__}")
        raise typer.Exit


def _plugin_sources(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> Any:
    """Apply --plugin and --no-plugins as soon as they are read, so that --help lists the right commands."""
    given = ctx.ensure_object(dict)
    given[param.name] = value
    if value:
        from sagd_cli.plugin import registry as plugins

        files = [Path(path) for path in given.get("plugin") or []]
        plugins.use_sources(plugins.Sources.from_environment(files, bool(given.get("no_plugins"))))
    return value


@app.callback()
def root(
    ctx: typer.Context,
    plugin: Annotated[
        list[Path] | None,
        typer.Option(
            "--plugin",
            metavar="FILE.py",
            help="Load a plug-in from a file.",
            is_eager=True,
            callback=_plugin_sources,
        ),
    ] = None,
    no_plugins: Annotated[
        bool, typer.Option("--no-plugins", help="Built-ins only.", is_eager=True, callback=_plugin_sources)
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    """Spectrally anisotropic Gaussian diffusion: shape the noise, train, sample, and omit damaged bands.

    A first run: `sagd train`, then `sagd sample runs/NAME --grid grid.png`.
    """
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())
