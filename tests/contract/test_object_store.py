"""Where archived events go: a folder, Azure Blob Storage's stand-in, and Azurite where it can be had."""

import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import pytest
from pydantic import SecretStr

from event_store.azure_blobs import AzureBlobs
from event_store.object_errors import ArchiveUnavailable, ObjectMissing
from event_store.object_store import DirectoryStore, NoStore, ObjectStore, object_store_of
from event_store.postgres import PostgresLog
from infra.settings import Settings
from schemas.errors import BadDefinition
from tests import azurite, blobs
from tests.archives import archive
from tests.contract.log.appends import append
from tests.services import NAMESPACE, PARTITIONS

KINDS = ["folder", "stand-in", *(["azurite"] if azurite.can_be_had() else [])]
CONTAINER = "archive"
CONTENT = bytes(range(256)) * 40


@pytest.fixture(scope="session")
def azurite_url(services_folder: Path) -> Iterator[str]:
    """An Azurite of this test process."""
    with azurite.azurite(azurite.installed(), services_folder / "azurite") as url:
        yield url


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    """An empty store."""
    match request.param:
        case "folder":
            yield DirectoryStore(tmp_path)
        case "stand-in":
            with blobs.blob_stand_in() as stand_in:
                async with opened(f"{stand_in.url}/{CONTAINER}", blobs.KEY) as made:
                    yield made
        case _:
            url = request.getfixturevalue("azurite_url")
            async with opened(f"{url}/{container_of(tmp_path)}", azurite.KEY) as made:
                yield made


def container_of(tmp_path: Path) -> str:
    """Return a container of the test's own."""
    return f"c{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:20]}"


@asynccontextmanager
async def opened(url: str, key: str | None, *, makes_container: bool = True) -> AsyncIterator[AzureBlobs]:
    store = AzureBlobs(url, key)
    try:
        if makes_container:
            await store.make_container()
        yield store
    finally:
        await store.close()


async def test_what_was_put_is_given_back_whole_and_in_parts(store: ObjectStore) -> None:
    await store.put("p0/r1-ab/000000", CONTENT)
    assert await store.get("p0/r1-ab/000000") == CONTENT
    assert await store.get("p0/r1-ab/000000", 100, 50) == CONTENT[100:150]
    assert await store.get("p0/r1-ab/000000", 10_000) == CONTENT[10_000:]
    assert await store.get("p0/r1-ab/000000", 0, 1) == CONTENT[:1]


async def test_what_is_put_again_replaces_the_whole(store: ObjectStore) -> None:
    await store.put("a/größe 1+2", CONTENT)
    await store.put("a/größe 1+2", b"short")
    assert await store.get("a/größe 1+2") == b"short"


async def test_what_was_never_put_is_missing_and_named(store: ObjectStore) -> None:
    await store.put("p0/there", b"x")
    with pytest.raises(ObjectMissing, match="p0/never"):
        await store.get("p0/never")


async def test_a_folder_that_is_not_mounted_is_away_and_not_empty(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "mount")
    with pytest.raises(ArchiveUnavailable, match="is not there"):
        await store.get("a")
    with pytest.raises(ArchiveUnavailable):
        await store.put("a", b"x")
    assert not (tmp_path / "mount").exists()


async def test_nothing_half_written_is_ever_seen_in_a_folder(tmp_path: Path) -> None:
    await DirectoryStore(tmp_path).put("p0/a", CONTENT)
    assert [path.name for path in (tmp_path / "p0").iterdir()] == ["a"]


async def test_a_service_that_is_busy_is_asked_again() -> None:
    with blobs.blob_stand_in() as stand_in:
        async with opened(f"{stand_in.url}/{CONTAINER}", blobs.KEY) as store:
            stand_in.failures += [503, 500]
            await store.put("a", CONTENT)
            stand_in.failures += [429]
            assert await store.get("a") == CONTENT
            stand_in.failures += [503] * 10
            with pytest.raises(ArchiveUnavailable, match=r"a.*503 ServerBusy"):
                await store.get("a")


async def test_a_wrong_key_is_refused_by_the_service_and_said_so() -> None:
    wrong = base64.b64encode(b"another key").decode()
    with blobs.blob_stand_in() as stand_in:
        async with opened(f"{stand_in.url}/{CONTAINER}", wrong, makes_container=False) as store:
            with pytest.raises(ArchiveUnavailable, match="403 AuthenticationFailed"):
                await store.get("a")


async def test_a_service_that_is_away_is_named_with_what_was_wanted() -> None:
    with blobs.blob_stand_in() as stand_in:
        url = stand_in.url
    async with opened(f"{url}/{CONTAINER}", blobs.KEY, makes_container=False) as store:
        with pytest.raises(ArchiveUnavailable, match="p0/r0-ab/manifest"):
            await store.get("p0/r0-ab/manifest")


@pytest.mark.parametrize("kind", KINDS[2:])
async def test_a_shared_access_signature_in_the_address_is_enough(
    azurite_url: str, tmp_path: Path, kind: str
) -> None:
    container = container_of(tmp_path)
    url = f"{azurite_url}/{container}"
    async with opened(url, azurite.KEY):
        async with opened(f"{url}?{signature(container, 'rcw')}", None, makes_container=False) as store:
            await store.put("p0/a", CONTENT)
            assert await store.get("p0/a", 5, 5) == CONTENT[5:10]
        async with opened(f"{url}?{signature(container, 'r')}", None, makes_container=False) as reader:
            assert await reader.get("p0/a") == CONTENT
            with pytest.raises(ArchiveUnavailable, match="403"):
                await reader.put("p0/b", CONTENT)


def signature(container: str, permissions: str) -> str:
    """Return a shared access signature for a container, as an account's owner makes one."""
    expiry = (datetime.now(UTC) + timedelta(minutes=10)).strftime("%Y-%m-%dT%H:%M:%SZ")
    version = "2021-12-02"
    fields = [
        permissions, "", expiry, f"/blob/{azurite.ACCOUNT}/{container}", "", "", "", version, "c",
        *[""] * 7,
    ]  # fmt: skip
    digest = hmac.new(base64.b64decode(azurite.KEY), "\n".join(fields).encode(), hashlib.sha256).digest()
    given = {
        "sp": permissions,
        "se": expiry,
        "sv": version,
        "sr": "c",
        "sig": base64.b64encode(digest).decode(),
    }
    return urlencode(given)


async def test_a_log_is_archived_to_a_store_and_read_from_it(
    store: ObjectStore, small_ranges_url: str
) -> None:
    async with PostgresLog({range(PARTITIONS): small_ranges_url}, NAMESPACE, archive=store) as log:
        for version in (0, 5, 10):
            await log.append_batch(0, [append("größe/1", version, 5)])
            await log.keep_house(0, keys_kept=timedelta(days=1))
        before = await log.read_range(0, 1, 15)
        assert len(await archive(log, store, small_ranges_url)) == 1
        assert await log.read_range(0, 1, 15) == before
        assert [event async for event in log.read_stream("acme", "größe/1")] == before


def test_settings_name_a_folder_or_a_container(tmp_path: Path) -> None:
    def made(url: str | None, key: str | None = None) -> ObjectStore:
        return object_store_of(
            Settings(
                _env_file=None,
                archive_url=SecretStr(url) if url else None,
                archive_key=SecretStr(key) if key else None,
            )
        )

    assert made(f"file://{tmp_path}") == DirectoryStore(tmp_path)
    assert isinstance(made(None), NoStore)
    assert isinstance(made("https://acc.blob.core.windows.net/logs?sig=abc"), AzureBlobs)
    assert isinstance(made("https://acc.blob.core.windows.net/logs", azurite.KEY), AzureBlobs)
    for url, key in (
        ("s3://bucket", None),
        ("https://acc.blob.core.windows.net/logs", None),
        ("https://acc.blob.core.windows.net/logs", "no base64!"),
        ("https://acc.blob.core.windows.net/", azurite.KEY),
    ):
        with pytest.raises(BadDefinition, match="EVERFOLD_ARCHIVE"):
            made(url, key)
