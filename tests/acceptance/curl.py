"""As much of curl as the printed lines need, for a machine that has none; it fails where the server refuses."""

import sys
from pathlib import Path

import httpx2

REFUSED = 22


def main() -> int:
    """Send one request as curl would, and print the answer's body."""
    words = iter(sys.argv[1:])
    headers, body, url, head_file = {}, None, "", None
    for word in words:
        match word:
            case "-s":
                pass
            case "-H":
                name, _, value = next(words).partition(":")
                headers[name] = value.strip()
            case "-d":
                body = next(words)
            case "-D":
                head_file = Path(next(words))
            case _:
                url = word
    answer = httpx2.request("GET" if body is None else "POST", url, headers=headers, content=body, timeout=60)
    if head_file is not None:
        head_file.write_text("".join(f"{name}: {value}\r\n" for name, value in answer.headers.items()))
    print(answer.text)
    return REFUSED if answer.is_error else 0


if __name__ == "__main__":
    sys.exit(main())
