"""The command ``mmref``: registers the verbs and turns errors into one line and a status."""

import atexit
import gc
import io
import os
import signal
import sys
import warnings
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from mmref._version import __version__
from mmref.errors import MMRefError
from mmref.processes.launch import is_silent, require_alone

# Verb -> module that holds a function ``command`` (or a Typer app called ``app``).
VERBS = (
    "demo",
    "data",
    "synth",
    "train",
    "evaluate",
    "compare",
    "inspect",
    "ablate",
    "profile",
    "transfer",
    "embed",
    "index",
    "search",
    "store",
)

_WIDTH = 80
# The parser's own mistakes (typer brings click's classes, but not always click itself).
_ClickError: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def _write_example(epilog: str | None, formatter: Any) -> None:
    """An epilog ``Example: COMMAND`` on a line of its own; a long one breaks before an option."""
    if not epilog:
        return
    formatter.write_paragraph()
    line = f"  {epilog}"
    while len(line) > _WIDTH and (cut := line.rfind(" --", 0, _WIDTH - 2)) > 2:
        formatter.write(f"{line[:cut]} \\\n")
        line = f"     {line[cut:]}"
    formatter.write(f"{line}\n")


class _Command(TyperCommand):
    """A verb whose help calls arguments by their plain names and keeps its example whole."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """``[OPTIONS] RUN IMAGES...``."""
        pieces = ["[OPTIONS]"]
        for param in self.get_params(ctx):
            if param.param_type_name == "argument":
                name = _name(param)
                pieces.append(name if param.required else f"[{name}]")
        return pieces

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments, then options, each with its help."""
        rows: dict[str, list[tuple[str, str]]] = {"argument": [], "option": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                name = _name(param) if param.param_type_name == "argument" else record[0]
                rows[param.param_type_name].append((name, record[1]))
        for kind, records in rows.items():
            if records:
                with formatter.section(f"{kind.capitalize()}s"):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The example."""
        del ctx
        _write_example(self.epilog, formatter)


class _Group(TyperGroup):
    """A verb with verbs of its own."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The example."""
        del ctx
        _write_example(self.epilog, formatter)


def _name(param: Any) -> str:
    return str(param.metavar or param.name.upper()).strip("[]")


app = typer.Typer(
    name="mmref",
    cls=_Group,
    help="Find the exact image that a sentence describes.\n\n"
    "Train on your own captions, index a folder of pictures, search it by text or by image.",
    epilog="Start here: mmref demo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": _WIDTH},
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
        epilog = getattr(module, "EPILOG", None)
        if hasattr(module, "app"):
            for inner in module.app.registered_commands:
                inner.cls = _Command
            app.add_typer(module.app, name=verb, cls=_Group)
        else:
            app.command(name=verb, cls=_Command, epilog=epilog)(module.command)


def run(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and leave with 0 (done), 1 (failed) or 2 (asked wrongly)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words or bool(os.environ.get("MMREF_DEBUG"))
    words = [word for word in words if word != "--debug"]
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may be no text at all
        sys.stdout.reconfigure(errors="backslashreplace")
    atexit.register(gc.freeze)  # else Python looks through all that torch loaded, as it ends
    _register()
    warnings.filterwarnings("ignore", module=r"PIL(\.|$)")  # a file that cannot be used is named
    try:
        if words[:1] and words[0] in VERBS:
            require_alone(words[0])
        status = app(args=words, prog_name="mmref", standalone_mode=False)
    except _ClickError as error:
        status = _asked_wrongly(error)
    except MMRefError as error:
        if debug:
            raise
        _complain(str(error), error)
        status = error.exit_status
    except BrokenPipeError:
        sys.stderr.close()
        status = 1
    except (KeyboardInterrupt, typer.Abort):
        status = 130
    except Exception as error:
        if debug:
            raise
        _complain(
            f"unexpected {type(error).__name__}: {' '.join(str(error).split())[:300]} "
            "(run again with --debug for the traceback, and please report it)",
            error,
        )
        status = 1
    if status == 130:
        _ignore_interrupts()
        _complain("interrupted", KeyboardInterrupt())
    sys.exit(status if isinstance(status, int) else 0)


def _ignore_interrupts() -> None:
    """A second Ctrl-C would break what modules still do as the process ends, with a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _asked_wrongly(error: Any) -> int:
    """The parser's complaint as one line that names the help; the help itself without a verb."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return 2
    path = error.ctx.command_path if getattr(error, "ctx", None) else "mmref"
    message = " ".join(error.format_message().split()).rstrip(".").replace("Value error, ", "")
    _complain(f"{message[:1].lower()}{message[1:]}: see {path} --help", error)
    return int(error.exit_code)


def _complain(message: str, error: BaseException) -> None:
    """One line; a message that points at a spot of the input (a caret) keeps its lines.

    Of several processes one speaks.
    """
    if is_silent(error):
        return
    line, pointer = message, ""
    if message.endswith("^") and message.count("\n") == 2:
        line, _, pointer = message.partition("\n")
    print("\n".join(filter(None, [f"mmref: {' '.join(line.split())}", pointer])), file=sys.stderr)
