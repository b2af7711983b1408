"""``fscs completion``."""

import click

from fscs_sdk.cli.group import COMPLETE_VARIABLE

#: Shell -> how its script is put to use, as comments that the shell skips.
INSTRUCTIONS = {
    "bash": 'Add this line to ~/.bashrc:  eval "$(fscs completion bash)"',
    "zsh": 'Add this line to ~/.zshrc, below compinit:  eval "$(fscs completion zsh)"',
    "fish": "Run once:  fscs completion fish > ~/.config/fish/completions/fscs.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(list(INSTRUCTIONS)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that lets SHELL complete the commands and options of fscs.

    \b
    bash   add to ~/.bashrc:                  eval "$(fscs completion bash)"
    zsh    add to ~/.zshrc, below compinit:   eval "$(fscs completion zsh)"
    fish   run once:                          fscs completion fish > ~/.config/fish/completions/fscs.fish
    """
    from click.shell_completion import get_completion_class

    script = get_completion_class(shell)
    if script is None:
        raise ValueError(f"this version of click cannot complete in {shell}; update click")
    click.echo(f"# {INSTRUCTIONS[shell]}")
    click.echo(script(ctx.find_root().command, {}, "fscs", COMPLETE_VARIABLE).source())
