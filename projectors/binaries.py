"""
Programs of different versions side by side, as while a deployment rolls: who folds what.

A projector holds its partitions in a group of leases that is named by all that its program folds. So programs that fold
the same share the partitions, and each other program has all partitions for what only it can fold: the generation
that is live goes on being folded everywhere while a newer one is built, and the newer one afterwards. What several
programs fold alike belongs to the first of the groups that are alive. Whoever is wrong about that for a moment is
fenced by the checkpoint.
"""

from collections.abc import Iterable, Mapping

from projectors.projection import Projection, Row

PREFIX = "projections/"


def group_of(kinds: Mapping[str, type[Projection[Row]]]) -> str:
    """Return the name of the group of those who fold these projections."""
    return PREFIX + ",".join(sorted(_folded(name, kind.version) for name, kind in kinds.items()))


def is_folded_by(mine: str, name: str, version: int, alive: Iterable[str]) -> bool:
    """Say whether a version of a projection is for the group `mine` to fold, of all groups that are alive."""
    able = _able(name, version, {*alive, mine})
    return bool(able) and min(able) == mine


def is_folded(name: str, version: int, alive: Iterable[str]) -> bool:
    """Say whether any of the groups that are alive folds a version of a projection."""
    return bool(_able(name, version, alive))


def _able(name: str, version: int, groups: Iterable[str]) -> list[str]:
    wanted = _folded(name, version)
    return [group for group in groups if wanted in group.removeprefix(PREFIX).split(",")]


def _folded(name: str, version: int) -> str:
    return f"{name}@{version}"
