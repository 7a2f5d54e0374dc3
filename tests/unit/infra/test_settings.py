"""The log's servers, as `EVERFOLD_STORE_URL` names them."""

import pytest

from infra.settings import load_settings
from schemas.errors import BadDefinition

READ = "postgresql://reads/db"


def test_one_address_is_for_all_partitions() -> None:
    settings = load_settings(store_url="postgresql://one/db", partitions=4)
    assert settings.store_urls == {range(4): "postgresql://one/db"}


def test_several_addresses_are_each_for_a_range_of_partitions() -> None:
    settings = load_settings(
        store_url="0-3=postgresql://a,b/db, 4-7=postgresql://c/db", read_url=READ, partitions=8
    )
    assert settings.store_urls == {
        range(4): "postgresql://a,b/db",
        range(4, 8): "postgresql://c/db",
    }
    assert settings.read_url_or_store == READ


@pytest.mark.parametrize(
    "store_url",
    ["0-3=x://a,5-7=x://b", "0-3=x://a,3-7=x://b", "0-3=x://a,0-3=x://b", "0-3=x://a,4-8=x://b"],
    ids=["hole", "overlap", "twice", "too-many"],
)
def test_ranges_that_do_not_name_each_partition_once_are_refused(store_url: str) -> None:
    with pytest.raises(BadDefinition, match="EVERFOLD_STORE_URL"):
        load_settings(store_url=store_url, read_url=READ, partitions=8)


def test_several_servers_need_one_for_the_read_tables() -> None:
    with pytest.raises(BadDefinition, match="EVERFOLD_READ_URL"):
        load_settings(store_url="0-3=x://a,4-7=x://b", partitions=8)
