"""`sagd config`: show, validate, schema."""

import json
from collections.abc import Callable
from typing import Annotated, Any

import typer

from sagd_cli.commands.common import ConfigOption, PresetOption, SetOption, common, group
from sagd_cli.config.arguments import check_filter_file
from sagd_cli.config.filter import filter_schema
from sagd_cli.config.layers import presets, resolve
from sagd_cli.config.run import RunConfig
from sagd_cli.config.validation import validate
from sagd_cli.errors import UsageError
from sagd_cli.system.console import output
from sagd_cli.system.yaml import dump_yaml, read_mapping

app = group("Show and validate configurations; print their JSON Schema.")


@app.command()
@common
def show(
    config: ConfigOption = None,
    preset: PresetOption = None,
    overrides: SetOption = None,
    names: Annotated[bool, typer.Option("--list", help="List the presets instead.")] = False,
) -> None:
    """Print the resolved configuration of a run, defaults written out.

    Example:

      sagd config show --preset mnist --set training.seed=1
    """
    if names:
        output().result({"presets": sorted(presets())}, "\n".join(sorted(presets())))
        return
    document = resolve({}, overrides or [], config, preset).document()
    output().result(document, dump_yaml(document))


@app.command("validate")
@common
def validate_(
    file: Annotated[
        str, typer.Argument(metavar="FILE.yaml", help="A run's configuration or a filter file; - is stdin.")
    ],
) -> None:
    """Check a run's configuration or a filter file; exit 2 with the key that is wrong.

    Example:

      sagd config validate experiment.yaml
    """
    document = read_mapping(file)
    is_filter = not document.keys().isdisjoint({"type", "options", "normalize", "units"})
    kind = "filter" if is_filter else "run"
    checked = check_filter_file(document, file) if is_filter else validate(RunConfig, document, file)
    output().result(
        {"file": file, "kind": kind, "valid": True, "sha256": checked.sha256()}, f"{file}: valid {kind} file"
    )


@app.command()
@common
def schema(
    kind: Annotated[str, typer.Argument(metavar="run|filter", help="Which kind of file.")] = "run",
) -> None:
    """Print the JSON Schema of a configuration or filter file, for editors."""
    schemas: dict[str, Callable[[], dict[str, Any]]] = {
        "run": RunConfig.model_json_schema,
        "filter": filter_schema,
    }
    if kind not in schemas:
        raise UsageError(f"unknown kind {kind!r}", "Kinds are run and filter.")
    document = schemas[kind]()
    output().result(document, json.dumps(document, indent=2))
