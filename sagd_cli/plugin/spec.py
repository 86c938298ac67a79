"""The hooks of the plug-in system (pluggy). Each returns an iterable; none takes a register callback."""

from collections.abc import Iterable

import pluggy
import typer

from sagd_cli.plugin.records import BackbonePlugin, DatasetPlugin, FeaturePlugin, FilterPlugin

PROJECT = "sagd"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class HookSpecs:
    """Every hook a plug-in may implement, as module-level functions marked with `hookimpl`."""

    @hookspec
    def sagd_filters(self) -> Iterable[FilterPlugin]:  # type: ignore[empty-body]
        """Filter families for `sagd filter design --type NAME`."""

    @hookspec
    def sagd_datasets(self) -> Iterable[DatasetPlugin]:  # type: ignore[empty-body]
        """Data sets for `sagd train --dataset NAME` and for DATA in all other commands."""

    @hookspec
    def sagd_backbones(self) -> Iterable[BackbonePlugin]:  # type: ignore[empty-body]
        """Networks for `sagd train --backbone NAME`."""

    @hookspec
    def sagd_features(self) -> Iterable[FeaturePlugin]:  # type: ignore[empty-body]
        """Feature extractors for `sagd fid --features NAME`."""

    @hookspec
    def sagd_commands(self) -> Iterable[typer.Typer]:  # type: ignore[empty-body]
        """Sub-commands: each Typer application needs a name and becomes `sagd NAME`."""
