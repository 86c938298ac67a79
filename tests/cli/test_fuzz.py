"""Random command lines keep the laws of `support/fuzz_laws.py`.

`python tests/support/fuzzing.py SECONDS` tries more of them.
"""

import pytest
from support.fuzz_commands import COMMANDS, TURNS
from support.fuzzing import fuzz

SEED, ROUNDS = 15, 2


@pytest.mark.slow
def test_random_command_lines_keep_the_laws(tmp_path):
    report = fuzz(tmp_path, SEED, range(ROUNDS * len(TURNS)))
    assert not report.broken, "\n".join(report.broken.values())
    assert report.codes.keys() == {command.words for command in COMMANDS}
    # Not all is refused: the laws of what succeeds are tried, too.
    assert sum(codes[0] for codes in report.codes.values()) >= ROUNDS * len(TURNS) / 3
