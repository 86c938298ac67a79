"""Settings take numbers where numbers are meant, and nothing that only looks like one."""

import pytest
from pydantic import Field, ValidationError

from sagd_cli.config.layers import resolve
from sagd_cli.errors import ConfigError
from sagd_cli.system.settings import Settings


class Probe(Settings):
    count: int | None = 1
    share: float = 0.5
    pair: tuple[float, ...] = ()
    by_name: dict[str, int] = Field(default_factory=dict)
    flag: bool = False
    either: bool | int = 1


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"count": True}, ("count",)),
        ({"share": False}, ("share",)),
        ({"pair": [0.5, True]}, ("pair", 1)),
        ({"by_name": {"a": True}}, ("by_name", "a")),
        ({"count": "010"}, ("count",)),
        ({"share": "-010"}, ("share",)),
        ({"count": "0_10"}, ("count",)),
    ],
)
def test_what_is_no_clear_number_is_refused_at_its_place(values, place):
    with pytest.raises(ValidationError) as error:
        Probe(**values)
    (problem,) = error.value.errors()
    assert problem["loc"] == place


@pytest.mark.parametrize(
    ("values", "taken"),
    [
        ({"count": 1e6}, 1_000_000),
        ({"count": "100"}, 100),
        ({"count": "0"}, 0),
        ({"count": None}, None),
        ({"share": 1}, 1.0),
        ({"share": "0.25"}, 0.25),
        ({"flag": True}, True),
        ({"either": True}, True),
        ({"pair": [1, 2]}, (1.0, 2.0)),
    ],
)
def test_clear_numbers_are_taken(values, taken):
    (name,) = values
    value = getattr(Probe(**values), name)
    assert (type(value), value) == (type(taken), taken)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.images=true", "training.images: input should be a number, not True"),
        ("training.images=010", "training.images: input should be a number without a leading 0"),
        ("training.images=1:30", "training.images: input should be a valid integer"),
        ("training.images=1.5", "training.images: input should be a valid integer"),
        ("training.images=2026-11-30", "training.images: input should be a valid integer"),
        ("training.learning_rate=1:30", "training.learning_rate: input should be a valid number"),
        ("training.ema_half_life_images=true", "training.ema_half_life_images: input should be a number"),
        (
            "training.ema_half_life_images=[5, true]",
            "training.ema_half_life_images.1: input should be a number",
        ),
        ("filter.options.alpha=true", "filter powerlaw: alpha: input should be a number, not True"),
        (
            "restoration={bands: [high], strengths: [true, 2]}",
            "restoration.strengths.0: input should be a number",
        ),
    ],
)
def test_settings_of_a_run_are_held_to_it(override, message):
    with pytest.raises(ConfigError) as error:
        resolve({}, [override])
    assert message in error.value.message


@pytest.mark.parametrize("source", ["file", "override"])
def test_amounts_may_be_written_with_an_exponent(source, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("training: {images: 1e6, batch_size: 6.4e1, seed: 0x10}\n")
    overrides = ["training.images=1e6", "training.batch_size=6.4e1", "training.seed=0x10"]
    training = (resolve({}, [], path) if source == "file" else resolve({}, overrides)).training
    assert (training.images, training.batch_size, training.seed) == (1_000_000, 64, 16)


def test_a_folder_may_be_called_like_a_date():
    chosen = resolve({}, ["dataset={name: folder, options: {path: 2026-11-30}}"])
    assert chosen.dataset.options["path"] == "2026-11-30"
    with pytest.raises(ConfigError) as error:
        resolve({}, ["dataset={name: folder, options: {path: 2026}}"])
    assert (
        error.value.hint
        == 'A text that looks like a number, true or null is put in quotes, for example "1e3".'
    )
