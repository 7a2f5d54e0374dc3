"""Whom servers run as, and what is kept for them outside a closed home."""

import os
from pathlib import Path

import pytest

from infra.embedded import outside
from infra.embedded.account import Account, may_enter, open_root, server_account
from infra.embedded.errors import NoReachableFolder
from infra.embedded.outside import copy_outside, data_outside

STRANGER = Account(uid=64_321, gid=64_321)


@pytest.fixture
def lasting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the system's folder, which servers' accounts can enter."""
    root = tmp_path / "lasting"
    root.mkdir()
    monkeypatch.setattr(outside, "open_root", lambda candidates: root)
    return root


def test_a_stranger_can_go_where_every_folder_on_the_way_lets_others_through(tmp_path: Path) -> None:
    closed = tmp_path / "closed" / "inside"
    closed.mkdir(parents=True)
    closed.parent.chmod(0o700)
    assert not may_enter(STRANGER, closed)
    assert may_enter(STRANGER, Path("/tmp"))
    assert not may_enter(STRANGER, tmp_path / "not there")


def test_an_owner_is_judged_as_owner(tmp_path: Path) -> None:
    me = Account(os.geteuid(), os.getegid())
    mine = tmp_path / "mine"
    mine.mkdir(mode=0o700)
    assert may_enter(me, mine)
    mine.chmod(0o077)
    assert not may_enter(me, mine)
    mine.chmod(0o700)


def test_servers_never_run_as_root() -> None:
    assert server_account().uid != 0


def test_where_no_folder_will_do_the_error_names_those_that_were_tried(tmp_path: Path) -> None:
    with pytest.raises(NoReachableFolder, match="not there"):
        open_root([tmp_path / "not there"])


def test_new_data_of_a_project_replaces_what_nothing_links_to(lasting: Path, tmp_path: Path) -> None:
    for folder in ("project", "other"):
        (tmp_path / folder).mkdir()
    first = data_outside(tmp_path / "project", "postgres")
    second = data_outside(tmp_path / "project", "postgres")
    other = data_outside(tmp_path / "other", "postgres")
    assert not first.exists()
    assert second.parent != other.parent
    assert second.exists()
    assert other.exists()


def test_what_belonged_to_a_temporary_folder_goes_with_it_and_a_projects_data_stays(
    lasting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside, "PASSING_ROOTS", (tmp_path / "passing",))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "passing"))
    temporary = data_outside(tmp_path / "passing" / "run", "postgres")
    kept = data_outside(tmp_path / "unmounted" / "project", "postgres")
    data_outside(tmp_path / "project", "postgres")
    assert not temporary.exists()
    assert kept.exists()


def test_a_copy_is_made_once_with_what_lies_beside_it(lasting: Path, tmp_path: Path) -> None:
    package, libraries = tmp_path / "site" / "package", tmp_path / "site" / "package.libs"
    for folder in (package, libraries):
        folder.mkdir(parents=True)
        (folder / "file").write_text(folder.name)
    copied = copy_outside((package, libraries), "package-1")
    (package / "file").write_text("changed")
    assert copy_outside((package, libraries), "package-1") == copied
    assert (copied / "package" / "file").read_text() == "package"
    assert (copied / "package.libs" / "file").read_text() == "package.libs"
