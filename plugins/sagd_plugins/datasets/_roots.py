"""Where data sets that are not embedded are looked for when no root is given."""

import os
from pathlib import Path


def default_root() -> Path:
    """Return $SAGD_DATA, or `data` in the current directory."""
    return Path(os.environ.get("SAGD_DATA", "data"))
