"""Where data sets that are not embedded are looked for when no root is given."""

from pathlib import Path

from sagd_cli.system.environment import variable


def default_root() -> Path:
    """Return $SAGD_DATA, or `data` in the current directory."""
    return Path(variable("SAGD_DATA") or "data")
