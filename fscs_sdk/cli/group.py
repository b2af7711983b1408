"""What all commands of ``fscs`` share: how they are found, how the help lists them, how errors look."""

import gc
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import Any

import click

from fscs_sdk.cli.errors import explain
from fscs_sdk.cli.interruption import EXIT_INTERRUPTED

#: How a shell's completion script asks for suggestions.
COMPLETE_VARIABLE = "_FSCS_COMPLETE"
EXIT_FAILED = 1
#: Objects from one look for garbage to the next: Python's 700 make a sixth of the time that PyTorch's import takes.
GARBAGE_THRESHOLD = 100_000


class FscsGroup(click.Group):
    """Commands in sections, each loaded when it is used; every error is one sentence on standard error."""

    def __init__(self, *, name: str, sections: Mapping[str, Mapping[str, str]], help: str, callback: Any) -> None:
        """Make the group.

        Args:
            sections: section -> command -> its line in the help.
            callback: called before a command, and without one; it gets ``debug``.
        """
        debug = click.Option(["--debug"], is_flag=True, help="Show the traceback when something goes wrong.")
        super().__init__(
            name=name,
            help=help,
            callback=callback,
            params=[debug],
            invoke_without_command=True,
            context_settings={"help_option_names": ["-h", "--help"]},
        )
        click.version_option(package_name="fscs-sdk", prog_name="fscs")(self)
        self.sections = sections

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [command for section in self.sections.values() for command in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = getattr(import_module(f"fscs_sdk.cli.{cmd_name}"), cmd_name)
        return command

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands come first: they show the way."""
        self.format_commands(ctx, formatter)
        click.Command.format_options(self, ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.list_commands(ctx)))
        for section, commands in self.sections.items():
            with formatter.section(section):
                formatter.write_dl([(command.ljust(width), line) for command, line in commands.items()])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """As click's own, but misuse is one sentence too, and completion does not depend on how the program is run.

        What a console's encoding has no character for is written escaped: no run ends over the name of a class.
        """
        if standalone_mode:
            gc.set_threshold(GARBAGE_THRESHOLD)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            result = super().main(
                args,
                prog_name,
                complete_var or COMPLETE_VARIABLE,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                **extra,
            )
        except click.ClickException as error:
            if not standalone_mode:
                raise
            command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else self.name
            message = " ".join(error.format_message().split()).rstrip(".")
            _complain(f"{message}{' See' if message.endswith('?') else '; see'} '{command} --help'")
            sys.exit(error.exit_code)
        if not standalone_mode:
            return result
        sys.exit(result if isinstance(result, int) else 0)  # click returns the code of an early exit

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; whatever goes wrong in it becomes a sentence, unless ``--debug`` asks for the traceback."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # click ends these well, a closed pipe quietly
        except KeyboardInterrupt:
            if sys.stderr.isatty():
                click.echo(err=True)  # the terminal has written ^C
            _complain("interrupted")
            ctx.exit(EXIT_INTERRUPTED)
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            _complain(explain(error))
            ctx.exit(EXIT_FAILED)


def show_help(debug: bool) -> None:
    """``fscs`` alone says what there is."""
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _complain(sentence: str) -> None:
    click.echo(f"fscs: {sentence}", err=True)
