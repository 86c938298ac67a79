import pytest

from sagd_cli.config.shard import Shard, parse_shard
from sagd_cli.errors import UsageError


@pytest.mark.parametrize("count", (1, 3, 7))
def test_shares_are_the_whole_and_do_not_overlap(count):
    work = range(5)
    shares = [parse_shard(f"{k}/{count}").of(work) for k in range(1, count + 1)]
    assert sorted(item for share in shares for item in share) == list(work)


def test_none_is_the_whole_work():
    assert parse_shard(None) == Shard() and Shard().of("abc") == "abc"
    assert str(parse_shard("2/3")) == "2/3"


@pytest.mark.parametrize("text", ("3/2", "0/2", "1", "a/b", "1/2/3", "-1/2", "1/0", ""))
def test_other_shares_are_refused(text):
    with pytest.raises(UsageError, match="K/N"):
        parse_shard(text)
