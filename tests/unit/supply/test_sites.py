"""Sites are registered once, with a time zone that says when their days end."""

from datetime import UTC, date, datetime

import pytest
from pydantic import ValidationError

from command_api.supply.sites import END_OF_TIME, Sites, end_of_day
from infra.testing import given
from schemas.supply.rejections import AlreadyExists
from schemas.supply.sites import RegisterSite, SiteRegistered
from tests.unit.supply.words import SITE


def test_a_site_is_registered() -> None:
    given(Sites).when(SITE).then(SiteRegistered(name="Main store", time_zone="Europe/Berlin"))


def test_a_site_is_registered_only_once() -> None:
    given(Sites, SITE).when(SITE).then_refused(AlreadyExists, what="sites/S1")


@pytest.mark.parametrize(
    "zone", ["Mars/Olympus", "localtime", "../../etc/passwd", "", "europe/berlin", "America"]
)
def test_what_is_no_time_zone_is_not_taken(zone: str) -> None:
    with pytest.raises(ValidationError, match="time zone of the IANA database"):
        RegisterSite(site_id="S1", name="Main store", time_zone=zone)


@pytest.mark.parametrize(
    ("zone", "ends"),
    [
        ("UTC", datetime(2026, 4, 1, tzinfo=UTC)),
        ("Europe/Berlin", datetime(2026, 3, 31, 22, tzinfo=UTC)),
        ("America/New_York", datetime(2026, 4, 1, 4, tzinfo=UTC)),
        ("Pacific/Kiritimati", datetime(2026, 3, 31, 10, tzinfo=UTC)),
    ],
)
def test_a_day_ends_at_midnight_of_its_place(zone: str, ends: datetime) -> None:
    assert end_of_day(date(2026, 3, 31), zone) == ends


def test_a_day_ends_where_the_clock_skips_midnight() -> None:
    assert end_of_day(date(2018, 11, 3), "America/Sao_Paulo") == datetime(2018, 11, 4, 3, tzinfo=UTC)


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_the_calendars_last_day_has_an_end(zone: str) -> None:
    assert end_of_day(date.max, zone) == END_OF_TIME


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_the_earliest_day_that_stock_may_have_has_an_end(zone: str) -> None:
    assert end_of_day(date(1900, 1, 1), zone).year == 1900
