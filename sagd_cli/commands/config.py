"""`sagd config`: show, validate, schema."""

import json
from typing import Annotated

import typer
from pydantic import BaseModel

from sagd_cli.commands.common import ConfigOption, PresetOption, SetOption, common, group
from sagd_cli.config import FilterConfig, RunConfig, presets, resolve, validate
from sagd_cli.console import output
from sagd_cli.errors import UsageError
from sagd_cli.yaml_files import dump_yaml, read_mapping

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
    kind = "filter" if "type" in document else "run"
    checked = validate(FilterConfig if kind == "filter" else RunConfig, document, file)
    output().result(
        {"file": file, "kind": kind, "valid": True, "sha256": checked.sha256()}, f"{file}: valid {kind} file"
    )


@app.command()
@common
def schema(
    kind: Annotated[str, typer.Argument(metavar="run|filter", help="Which kind of file.")] = "run",
) -> None:
    """Print the JSON Schema of a configuration or filter file, for editors."""
    models: dict[str, type[BaseModel]] = {"run": RunConfig, "filter": FilterConfig}
    if kind not in models:
        raise UsageError(f"unknown kind {kind!r}", "Kinds are run and filter.")
    document = models[kind].model_json_schema()
    output().result(document, json.dumps(document, indent=2))
