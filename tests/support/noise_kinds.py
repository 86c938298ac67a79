"""The kinds of noise that `RandomSpectra` draws, by the names that settings have for them."""

from sagd_cli.spectral.band import ANY, RINGS, Band


def kinds_of(names):
    """`rings` and `any` as they are, a BAND as its mask on a grid; functions stay as they are."""
    return [Band.parse(n).mask if isinstance(n, str) and n not in (RINGS, ANY) else n for n in names]
