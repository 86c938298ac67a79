"""Settings from flags, dotted overrides, a file and a preset, merged into one configuration."""

from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from sagd_cli.config.run import RunConfig
from sagd_cli.config.validation import validate
from sagd_cli.errors import ConfigError, UsageError, suggest
from sagd_cli.system.yaml import parse_yaml, read_mapping

_KEPT = ("backbone", "schedule", "prediction", "class_conditional")


def parse_options(pairs: Iterable[str]) -> dict[str, Any]:
    """Read `key=value` pairs. Values are YAML, so numbers, lists and booleans have their types.

    Raises UsageError on text that is not key=value and on a key given twice, ConfigError on a value that is not YAML.
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.strip()
        if not equals or not key:
            raise UsageError(f"{pair!r} is not key=value", "For example -o alpha=-0.1")
        if key in options:
            raise UsageError(f"the key {key!r} is given twice")
        options[key] = parse_yaml(value, f"the value of {key}")
    return options


def presets() -> dict[str, Path]:
    """Return the files of the presets that come with the program, by name."""
    folder = Path(str(files("sagd_cli") / "config" / "presets"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_preset(name: str) -> dict[str, Any]:
    """Read the preset called `name`; raise ConfigError, with similar names, when there is no such preset."""
    if name not in presets():
        raise ConfigError(f"unknown preset {name!r}", suggest(name, presets()))
    return read_mapping(presets()[name])


def resolve(
    flags: Mapping[str, Any],
    overrides: Iterable[str] = (),
    config: Path | str | Mapping[str, Any] | None = None,
    preset: str | None = None,
    kept_of: Callable[[str], Mapping[str, Any]] | None = None,
) -> RunConfig:
    """Return the configuration merged from `flags` (dotted keys), `overrides` (a.b=c), a `config` file and a `preset`.

    The earlier of these wins. What none of them sets is as `kept_of(init)` has it, for a training that starts from the
    weights of `init` (None: those of a run), or has its default. `config` may also be the mapping that was read from a
    file; standard input, for example, can be read only once. Raises ConfigError when the result is not valid.
    """
    layers = [
        read_preset(preset) if preset is not None else {},
        config if isinstance(config, Mapping) else read_mapping(config) if config is not None else {},
    ]
    document: dict[str, Any] = {}
    for layer in layers:
        document = _merged(document, layer)
    for key, value in [*parse_options(overrides).items(), *flags.items()]:
        document = _merged(document, _nested(key, value))
    # The whole document of a run that was trained needs its source no more.
    if isinstance(document.get("init"), str) and not {*_KEPT} <= document.keys():
        document = _merged((kept_of or _kept_of_run)(document["init"]), document)
    named = config is not None and not isinstance(config, Mapping)
    return validate(RunConfig, document, str(config) if named else "configuration")


def kept_settings(config: RunConfig) -> dict[str, Any]:
    """Return the settings of a model that a training from its weights takes over: what its network is and predicts."""
    kept = config.model_dump(mode="json", include={*_KEPT})
    if config.class_conditional:
        kept["training"] = {"label_dropout": config.training.label_dropout}
    return kept


def _kept_of_run(init: str) -> dict[str, Any]:
    path = Path(init) / "config.yaml"
    if not path.is_file():
        raise UsageError(f"{init} is not a run", "Import a model of diffusers first: `sagd import DIR`.")
    return kept_settings(validate(RunConfig, read_mapping(path), str(path)))


def _merged(base: Mapping[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in update.items():
        old = result.get(key)
        if old is not None and value is not None and isinstance(old, dict) != isinstance(value, dict):
            raise ConfigError(f"{key} is a group of settings in one place and a single value in another")
        if isinstance(old, dict) and isinstance(value, dict) and not _names_another(old, value):
            result[key] = _merged(old, value)
        else:
            result[key] = value
    return result


def _names_another(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether `new` chooses another plug-in than `old`. Then the options of `old` do not apply."""
    return any(key in old and key in new and old[key] != new[key] for key in ("type", "name"))


def _nested(key: str, value: Any) -> dict[str, Any]:
    """Return {"a": {"b": value}} for the dotted key a.b."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


def differing_keys(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the dotted keys whose values differ between two documents."""
    keys = []
    for key in sorted({*a, *b}):
        left, right = a.get(key), b.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            keys += differing_keys(left, right, f"{prefix}{key}.")
        elif left != right:
            keys.append(f"{prefix}{key}")
    return keys
