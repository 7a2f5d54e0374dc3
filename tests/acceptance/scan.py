"""Looks for a text in everything that a system keeps: every table of its databases, every key in Redis, its logs."""

from pathlib import Path

import asyncpg
import redis.asyncio

from infra.settings import Settings

SCANNED_TOGETHER = 1_000


async def places_of(settings: Settings, text: str) -> set[str]:
    """Return where a text can be read: tables by name, Redis keys by their first parts, files."""
    found: set[str] = set()
    for url in {*settings.store_urls.values(), settings.read_url_or_store}:
        found |= await _tables_with(url, settings.namespace, text)
    return {
        *found,
        *await _keys_with(settings, text),
        *_files_with(settings.data_dir / "logs", text),
    }


async def _tables_with(url: str, namespace: str, text: str) -> set[str]:
    """Look at every row of every table as text, in which bytes stand as hex."""
    found = set()
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch(
            "SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
            "WHERE c.relkind = 'r' AND n.nspname LIKE $1",
            f"{namespace}%",
        )
        for schema, table in tables:
            if await connection.fetchval(
                f'SELECT EXISTS (SELECT FROM "{schema}"."{table}" AS t '
                "WHERE position($1 IN t::text) > 0 OR position($2 IN t::text) > 0)",
                text,
                text.encode().hex(),
            ):
                found.add(f"{schema.removeprefix(namespace)}.{table}")
    finally:
        await connection.close()
    return found


async def _keys_with(settings: Settings, text: str) -> set[str]:
    found = set()
    assert settings.redis_url is not None
    client = redis.asyncio.Redis.from_url(settings.redis_url.get_secret_value())
    try:
        async for key in client.scan_iter(count=SCANNED_TOGETHER):
            value = await client.get(key) if await client.type(key) == b"string" else await client.dump(key)
            if text.encode() in (value or b"") or text.encode() in key:
                found.add("redis " + ":".join(key.decode().split(":")[1:3]))
    finally:
        await client.aclose()
    return found


def _files_with(folder: Path, text: str) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()}
