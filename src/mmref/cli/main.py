"""The command ``mmref``: registers the verbs and turns errors into one line and a status."""

import os
import sys
from importlib import import_module
from typing import Annotated

import typer

from mmref._version import __version__
from mmref.errors import MMRefError

# Verb -> module that holds a function ``command`` (or a Typer app called ``app``).
VERBS = ("demo", "data", "train", "evaluate", "index", "search", "store")

app = typer.Typer(
    name="mmref",
    help="Find the exact image that a sentence describes.\n\n"
    "Train on your own captions, index a folder of pictures, search it by text or by image.",
    epilog="Start here: mmref demo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)


def _version(value: bool) -> None:
    if value:
        print(f"mmref {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show a traceback when something fails.")
    ] = False,
) -> None:
    del version, debug


def _register() -> None:
    for verb in VERBS:
        module = import_module(f"mmref.cli.{verb}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=verb)
        else:
            app.command(name=verb, epilog=getattr(module, "EPILOG", None))(module.command)


def run(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with 0 (done), 1 (failed) or 2 (asked wrongly)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words or bool(os.environ.get("MMREF_DEBUG"))
    words = [word for word in words if word != "--debug"]
    _register()
    try:
        app(args=words, prog_name="mmref")
    except MMRefError as error:
        if debug:
            raise
        print(f"mmref: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except KeyboardInterrupt:
        print("mmref: interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if debug:
            raise
        kind = type(error).__name__
        print(
            f"mmref: unexpected {kind}: {' '.join(str(error).split())[:300]} "
            "(run again with --debug for the traceback, and please report it)",
            file=sys.stderr,
        )
        sys.exit(1)
