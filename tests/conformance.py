"""
Has Schemathesis try an API against its own OpenAPI document: no 5xx, no undocumented status, every response valid.

    python -m tests.conformance URL [--seconds 120] [--seed 1]     the bearer token from EVERFOLD_TOKEN

Left out are the two checks that what fits the schema is taken and what does not is refused: positions, cursors and
idempotency keys are opaque, so what fits may still be none of this tenant's; and a batch answers 200 with a problem in
it.
"""

import argparse
import asyncio
import os
import random
import sys
from pathlib import Path

CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "unsupported_method", "allow_header_conformance", "ignored_auth",
)  # fmt: skip
PHASES = ("examples", "coverage", "fuzzing")
LEAVE_SECONDS_MAX = 60
CONFIGURATION = """
[[operations]]
include-path = "/v1/live"
max-stream-events = 1
"""
"""A stream has a first event at once; for more of them nearly all of the time would go into waiting."""


async def try_api(url: str, token: str, *, seconds: int, seed: int, folder: Path, only: str = "") -> str:
    """Try an API for some seconds; return what Schemathesis found, empty where there is nothing to find."""
    await asyncio.to_thread((folder / "schemathesis.toml").write_text, CONFIGURATION)
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("schemathesis")), "--no-color", "run", f"{url}/openapi.json",
        "--header", f"Authorization: Bearer {token}", "--checks", ",".join(CHECKS), "--phases", ",".join(PHASES),
        "--max-time", str(seconds), "--max-examples", "10", "--seed", str(seed), "--warnings", "off",
        *(["--include-path", only] if only else []),
        cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(seconds + LEAVE_SECONDS_MAX):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return "" if process.returncode == 0 else f"seed {seed}\n{said.decode()}"


def main() -> int:
    """Try the API that is named, print what was found, and say by the exit status whether that is anything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = parser.parse_args()
    token = os.environ["EVERFOLD_TOKEN"]
    found = asyncio.run(try_api(given.url, token, seconds=given.seconds, seed=given.seed, folder=Path.cwd()))
    print(found or f"nothing found in {given.seconds} s, seed {given.seed}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
