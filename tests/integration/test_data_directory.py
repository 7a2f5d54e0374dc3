"""One Everfold at a time on a data directory; who comes second is told, and harms nothing."""

import threading
from pathlib import Path

import pytest

from infra import data_directory as module
from infra.data_directory import STOPPING, data_directory
from infra.embedded.errors import DataDirectoryTaken


def unheard(line: str) -> None:
    pytest.fail(f"nobody waits here, yet it said: {line}")


def test_the_second_is_refused_with_the_folder_and_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS_MAX", 0.1)
    with data_directory(tmp_path / "data", unheard) as first:
        with pytest.raises(DataDirectoryTaken) as refused, data_directory(tmp_path / "data", unheard):
            pytest.fail("two have the same data directory")
        assert refused.value.folder == str(first.folder)
    assert refused.value.process is not None
    with data_directory(tmp_path / "data", unheard):
        pass


def test_one_that_is_stopping_is_waited_for(tmp_path: Path) -> None:
    said: list[str] = []
    waited_for = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        waited_for.set()

    def come_second() -> None:
        with data_directory(tmp_path, say):
            said.append("mine")

    with data_directory(tmp_path, unheard) as first:
        first.mark(STOPPING)
        second = threading.Thread(target=come_second)
        second.start()
        assert waited_for.wait(10)
    second.join(10)
    assert said[0].startswith("Waiting for the earlier Everfold")
    assert said[1:] == ["mine"]
