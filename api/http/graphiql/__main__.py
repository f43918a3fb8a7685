"""`python -m api.http.graphiql install`: let the gateway serve GraphiQL's files itself."""

from pathlib import Path

import click

from api.http.graphiql.assets import DEFAULT_ROOT
from api.http.graphiql.install import NotFetched, WrongContent
from api.http.graphiql.install import install as put_in_place


@click.group()
def main() -> None:
    """GraphiQL's files."""


@main.command()
@click.option(
    "--to",
    "root",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_ROOT,
    show_default=True,
    help="Where to put them.",
)
def install(root: Path) -> None:
    """Fetch GraphiQL's files through npm and check their hashes.

    Without npm or a network this is no failure: the page then names the CDN.
    """
    try:
        put_in_place(root)
    except NotFetched as reason:
        click.echo(f"GraphiQL will be loaded from its CDN: {reason}.", err=True)
    except WrongContent as error:
        raise click.ClickException(f"{error}; nothing was installed.") from error


if __name__ == "__main__":
    main()
