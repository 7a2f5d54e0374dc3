"""`everfold new …`: the files of one thing, with its test, ready to run."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from infra.scaffold.names import Name
from infra.scaffold.writer import write
from schemas.errors import BadDefinition

INSTALL_SECONDS_MAX = 120
Domain = Annotated[str, typer.Option(help="The domain that it belongs to.")]


def register(app: typer.Typer) -> None:
    """Add `new` to the command line."""
    new = typer.Typer(
        help="Write the files of a new domain, aggregate, projection, query or workflow.",
        no_args_is_help=True,
    )
    app.add_typer(new, name="new")

    @new.command()
    def domain(name: str) -> None:
        """Write an empty domain: a folder of its name in each layer, and its entry point."""
        root, named = repository(), Name(name)
        _written(root, write("domain", root, {"domain": named.snake, "words": named.words}))
        add_entry_point(root / "pyproject.toml", named.snake)
        install(root)
        print(
            f"Load it with EVERFOLD_DOMAINS={named.snake}, "
            f"and give it a namespace of its own: EVERFOLD_NAMESPACE={named.snake}"
        )

    @new.command()
    def aggregate(name: str, domain: Domain) -> None:
        """Write commands, events and a view, the rules over them, and their test."""
        root = repository()
        _written(root, write("aggregate", root, names_of(root, domain, aggregate=name)))

    @new.command()
    def projection(
        name: str,
        domain: Domain,
        of: Annotated[str | None, typer.Option(help="The aggregate whose events it folds.")] = None,
    ) -> None:
        """Write a read model: its fold, its table and its test."""
        root = repository()
        _written(root, write("projection", root, names_of(root, domain, aggregate=of, projection=name)))

    @new.command()
    def query(
        name: str,
        domain: Domain,
        of: Annotated[str | None, typer.Option(help="The aggregate that it answers about.")] = None,
        projection: Annotated[
            str | None, typer.Option(help="The projection that it reads; of its own name unless given.")
        ] = None,
    ) -> None:
        """Write the queries of one read model, one document and a list, and their test."""
        root = repository()
        _written(
            root,
            write(
                "query", root, names_of(root, domain, aggregate=of, projection=projection or name, query=name)
            ),
        )

    @new.command()
    def workflow(
        name: str,
        domain: Domain,
        of: Annotated[str | None, typer.Option(help="The aggregate whose events it answers.")] = None,
    ) -> None:
        """Write a workflow and its test."""
        root = repository()
        _written(root, write("workflow", root, names_of(root, domain, aggregate=of, workflow=name)))


def repository() -> Path:
    """
    Return the root of the repository that the current folder is in.

    Raises:
        BadDefinition: It is in none of Everfold's.
    """
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "pyproject.toml").is_file() and (folder / "command_api").is_dir():
            return folder
    raise BadDefinition(str(Path.cwd()), "is not inside a clone of Everfold; change into one first")


def names_of(root: Path, domain: str, *, aggregate: str | None, **others: str) -> dict[str, str]:
    """
    Return what templates are filled in with.

    Raises:
        BadDefinition: There is no such domain or aggregate, or it is not clear which is meant.
    """
    schemas = root / "schemas" / Name(domain).snake
    if not schemas.is_dir():
        raise BadDefinition(
            f"domain {domain}",
            f"has no folder schemas/{Name(domain).snake}: make it with `everfold new domain`",
        )
    known = sorted(
        found[1]
        for file in schemas.glob("*.py")
        if (found := re.search(r"^# aggregate: (\S+)$", file.read_text(), re.MULTILINE))
    )
    if aggregate is None:
        if len(known) != 1:
            raise BadDefinition(
                f"domain {domain}", f"say which aggregate with --of: {', '.join(known) or 'it has none yet'}"
            )
        aggregate = known[0]
    elif others and aggregate not in known:
        raise BadDefinition(
            f"aggregate {aggregate}", f"is not among those of {domain}: {', '.join(known) or 'none'}"
        )
    one, many = Name(aggregate), Name(aggregate).plural
    names = {
        "domain": Name(domain).snake, "aggregate": one.snake, "Aggregate": one.camel, "words": one.words,
        "text": one.text, "collection": many.text, "module": many.snake, "many": many.words, "Many": many.camel,
    }  # fmt: skip
    for kind, text in others.items():
        named = Name(text)
        names |= {
            kind: named.snake,
            kind.capitalize(): named.camel,
            f"{kind}_text": named.text,
            f"{kind}_words": named.words,
        }
    return names


def add_entry_point(file: Path, domain: str) -> None:
    """Add a domain's entry point to the package's description."""
    text = file.read_text(encoding="utf-8")
    heading = '[project.entry-points."everfold.domains"]\n'
    line = f'{domain} = "command_api.{domain}:DOMAIN"\n'
    if line not in text:
        file.write_text(text.replace(heading, heading + line), encoding="utf-8")


def install(root: Path) -> None:
    """Make the package's description known to this environment again; nothing is downloaded."""
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--offline", "--python", sys.executable,
               "--no-deps", "--no-build-isolation", "--editable", str(root)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS_MAX, check=False)
    if done.returncode:
        raise BadDefinition("the new entry point", f"could not be installed: {done.stderr.strip()}")


def _written(root: Path, paths: list[Path]) -> None:
    """Format what was written, whose names are as long as the user made them, and say what it is."""
    modules = [str(path) for path in paths if path.suffix == ".py"]
    for arguments in (("check", "--quiet", "--select", "I", "--fix"), ("format", "--quiet")):
        subprocess.run(
            [sys.executable, "-m", "ruff", *arguments, *modules],
            cwd=root,
            timeout=INSTALL_SECONDS_MAX,
            check=True,
        )
    for path in paths:
        print(f"wrote {path.relative_to(root)}")
