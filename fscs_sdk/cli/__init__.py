"""The ``fscs`` command, one file per subcommand; heavy imports stand inside the functions: ``--help`` is quick."""

import click

from fscs_sdk.cli.convert import convert
from fscs_sdk.cli.demo import demo
from fscs_sdk.cli.evaluate import evaluate

EXIT_FAILED = 1


class _Group(click.Group):
    """Commands whose foreseeable errors are one sentence on standard error, without a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (ValueError, OSError) as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"fscs: {error}", err=True)
            ctx.exit(EXIT_FAILED)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fscs-sdk", prog_name="fscs")
@click.option("--debug", is_flag=True, help="Show a traceback when something goes wrong.")
def main(debug: bool) -> None:
    """Is it there, and where? Few-shot classification and segmentation of photos.

    \b
    fscs demo                             answer a question about real photos, offline
    fscs evaluate --data DIR              measure a model on VOC-animals
    fscs convert FILE.ckpt OUT            use a checkpoint of the paper's authors
    """


for command in (demo, evaluate, convert):
    main.add_command(command)
