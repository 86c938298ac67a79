"""Where one `sagd omit` reads and writes, and how its files are named."""

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sagd_cli.config.shard import Shard
from sagd_cli.data.folders import output_name
from sagd_cli.data.journal import SettingText, setting
from sagd_cli.files.layout import is_store

_LEARNED = "[0-9a-f]" * 12  # `learning.folder_of`


def _alone(own: Any) -> list[Any]:
    return [own]


def _nobody_else(facts: Mapping[str, Any]) -> None:
    pass


@dataclass(frozen=True)
class Share:
    """Which of the files this process restores. `gathered` returns what it is given in each process of one command.

    `check_alike` waits for all of them and raises SagdError where they are given different facts. The shares of
    commands that know nothing of each other have such a `shard`, too, and gather nothing.
    """

    shard: Shard = field(default_factory=Shard)
    gathered: Callable[[Any], list[Any]] = _alone
    check_alike: Callable[[Mapping[str, Any]], None] = _nobody_else

    @property
    def is_whole(self) -> bool:
        """Whether it is all of them."""
        return self.shard.count == 1


@dataclass(frozen=True)
class Places:
    """Where `sagd omit` reads and writes; all processes that have a `share` of its files read and write there.

    The images of `source` are restored into `folder`. `truth` holds the true images, under the same names.
    `uncertainty` and `removed` are folders for the deviations and for what was taken away, `run` the folder for the
    learned model. `inputs` are further files and folders whose folder must not be written to. `extras` are further
    files that are written, by their options.
    """

    source: Path
    folder: Path
    truth: Path | None = None
    uncertainty: Path | None = None
    removed: Path | None = None
    run: Path | None = None
    inputs: Sequence[Path] = ()
    extras: Mapping[str, Path | None] = field(default_factory=dict)
    share: Share = Share()

    @property
    def settings(self) -> dict[str, SettingText]:
        """What decides the results, by its options: not where the journal is, what else is read, and what is shown."""
        paths = {
            "INPUT": self.source,
            "--truth": self.truth,
            "--uncertainty": self.uncertainty,
            "--removed": self.removed,
            "--save-model": self.run,
        }
        return {option: setting(option, path) for option, path in paths.items() if path is not None}

    @property
    def read(self) -> list[Path]:
        """The files and folders that are read; nothing is written into a folder of them."""
        return [self.source, *self.inputs, *([self.truth] if self.truth else [])]

    @property
    def beside(self) -> dict[str, Path]:
        """The folders of float images that are written beside the restored ones, by the keys of the JSON record."""
        both = {"uncertainty": self.uncertainty, "removed": self.removed}
        return {key: folder for key, folder in both.items() if folder is not None}

    @property
    def folders(self) -> list[Path]:
        """The folders in which images are read and written."""
        source = self.source.parent if is_store(self.source) or not self.source.is_dir() else self.source
        return [source, self.folder, *self.beside.values()]

    @property
    def workspace(self) -> Path:
        """The folder beside the output for what is learned, and for the journal, until the images are written.

        Each share has its own.
        """
        folder, shard = self.folder.resolve(), self.share.shard
        which = "" if self.share.is_whole else f"-{shard.number}-of-{shard.count}"
        return folder.with_name(f".{folder.name}-omission{which}")

    @property
    def otherwise_divided(self) -> dict[Path, int]:
        """The workspaces that commands with another number of shares have left, and those numbers."""
        folder = self.folder.resolve()
        form = re.compile(rf"\.{re.escape(folder.name)}-omission(?:-[0-9]+-of-([0-9]+))?")
        named = ((path, form.fullmatch(path.name)) for path in folder.parent.glob(".*-omission*"))
        counts = {path: int(match[1] or 1) for path, match in named if match}
        return {path: count for path, count in counts.items() if count != self.share.shard.count}

    def forget_learned(self) -> None:
        """Remove what was learned, also with other settings."""
        for path in self.workspace.glob(_LEARNED):
            shutil.rmtree(path, ignore_errors=True)


def draw_names(path: Path, draws: int) -> list[str]:
    """Return the file names of the `draws` results of an image: a.png, a.2.png and so on."""
    name = Path(output_name(path))
    return [name.name, *(f"{name.stem}.{k}{name.suffix}" for k in range(2, draws + 1))]


def beside_name(path: Path) -> str:
    """Return the file name of the float images that belong to an image."""
    return f"{path.stem}.tiff"
