"""What all commands share: the help at a glance, errors of one sentence, completion, quiet ends."""

import errno
import os
import re
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

import fscs_sdk.cli.info
from fscs_sdk.cli import SECTIONS, main
from fscs_sdk.cli.errors import explain

COMMANDS = [command for section in SECTIONS.values() for command in section]


def run(*arguments):
    return CliRunner().invoke(main, list(arguments))


def failing(monkeypatch, error):
    """Let ``fscs info`` meet an error."""

    def environment():
        raise error

    monkeypatch.setattr(fscs_sdk.cli.info, "environment", environment)
    return run("info")


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_the_help_shows_every_section_and_command_on_one_line_each(arguments):
    result = run(*arguments)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert all(len(line) <= 80 for line in lines)
    for section, commands in SECTIONS.items():
        start = lines.index(f"{section}:")
        shown = lines[start + 1 : start + 1 + len(commands)]
        assert [line.split()[0] for line in shown] == list(commands)
        assert all(line.endswith(".") for line in shown)
        assert len({line.index(line.split(maxsplit=1)[1]) for line in shown}) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_can_be_loaded_and_says_what_it_does(command):
    loaded = main.get_command(click.Context(main), command)
    assert loaded is not None
    assert loaded.name == command
    assert loaded.help
    assert run(command, "--help").exit_code == 0


def test_the_version():
    assert run("--version").output == f"fscs, version {fscs_sdk.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "No such command 'nope'; see 'fscs --help'"),
        (["--nope"], "No such option '?--nope'?; see 'fscs --help'"),
        (["demo", "--modl", "x"], ".*Did you mean '?--model'?.*see 'fscs demo --help'"),
        (["info", "more"], r"Got unexpected extra argument \(more\); see 'fscs info --help'"),
        (["completion"], ".*Missing argument.*; see 'fscs completion --help'"),
        (["completion", "tcsh"], ".*'tcsh' is not one of 'bash', 'zsh', 'fish'; see 'fscs completion --help'"),
    ],
)
def test_misuse_is_one_sentence_with_the_way_to_the_help(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert re.fullmatch(f"fscs: {message}\n", result.output.replace(": --nope", " '--nope'"), re.I), result.output


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("the threshold is 3; it must be\nat most 1"), "the threshold is 3; it must be at most 1"),
        (OSError("cannot write 'x'; check the disk"), "cannot write 'x'; check the disk"),
        (ImportError("COCO needs pycocotools; install it"), "COCO needs pycocotools; install it"),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/a.png"),
            "cannot use 'out/a.png': no space left on device; free some space, or choose a folder on another disk",
        ),
        (
            OSError(errno.ENOSPC, "'Out/A.png' cannot be written: No space left on device"),
            "'Out/A.png' cannot be written: No space left on device; "
            "free some space, or choose a folder on another disk",
        ),
        (
            PermissionError(errno.EACCES, os.strerror(errno.EACCES), "out"),
            "cannot use 'out': permission denied; check the permissions, or choose another folder",
        ),
        (OSError(errno.EIO, "Input/output error"), "input/output error; run again with --debug to see where"),
        (MemoryError(), "there is not enough memory; use smaller photos, fewer classes or a smaller batch"),
        (
            TypeError("unsupported\noperand"),
            "unexpected TypeError: unsupported operand; run again as 'fscs --debug ...' and report what it shows",
        ),
        (ValueError(), "unexpected ValueError; run again as 'fscs --debug ...' and report what it shows"),
    ],
)
def test_every_error_is_one_sentence_without_a_traceback(monkeypatch, error, sentence):
    assert explain(error) == sentence
    result = failing(monkeypatch, error)
    assert result.exit_code == 1
    assert result.output == f"fscs: {sentence}\n"


def test_debug_shows_the_traceback(monkeypatch):
    error = TypeError("a mistake of ours")
    failing(monkeypatch, error)
    assert run("--debug", "info").exception is error


def test_an_interruption_says_so_and_exits_as_shells_expect(monkeypatch):
    result = failing(monkeypatch, KeyboardInterrupt())
    assert result.exit_code == 130
    assert result.output == "fscs: interrupted\n"


def test_what_a_command_returns_is_not_its_exit_code(monkeypatch):
    monkeypatch.setattr(fscs_sdk.cli.info.info, "callback", lambda as_json: "something")
    assert run("info").exit_code == 0


def test_callers_without_standalone_mode_get_what_click_gives_them():
    with pytest.raises(click.UsageError):
        main.main(["nope"], standalone_mode=False)
    assert main.main(["--version"], standalone_mode=False) == 0


def shell(line, **environment):
    """A shell command in which ``$FSCS`` is the command."""
    line = line.replace("$FSCS", f'"{sys.executable}" -m fscs_sdk.cli')
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, env={**os.environ, **environment})


@pytest.mark.skipif(os.name == "nt", reason="pipes of Unix shells")
def test_a_reader_that_stops_early_is_no_error():
    result = shell("set -o pipefail; $FSCS completion bash | true; $FSCS --help | head -1")
    assert "Traceback" not in result.stderr
    assert "BrokenPipe" not in result.stderr
    assert "fscs:" not in result.stderr
    assert result.stdout.startswith("Usage: ")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full device here")
def test_output_that_finds_no_space_is_an_error_without_a_traceback():
    result = shell("$FSCS completion bash > /dev/full")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line == "fscs: no space left on device; free some space, or choose a folder on another disk"


@pytest.mark.parametrize(
    ("name", "mark"), [("bash", "complete -o"), ("zsh", "compdef"), ("fish", "complete --no-files")]
)
def test_completion_prints_the_script_and_how_to_use_it(name, mark):
    result = run("completion", name)
    assert result.exit_code == 0
    first, *script = result.output.splitlines()
    assert first.startswith("# ")
    assert f"fscs completion {name}" in first
    assert any(mark in line for line in script)
    assert any("_FSCS_COMPLETE" in line for line in script)


@pytest.mark.skipif(os.name == "nt", reason="bash")
def test_bash_completes_commands_and_options(tmp_path):
    """The printed script itself, in bash, with the command that it asks."""
    (tmp_path / "fscs").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fscs_sdk.cli "$@"\n')
    (tmp_path / "fscs").chmod(0o755)
    ask = 'COMP_WORDS=({words}); COMP_CWORD={last}; COMPREPLY=(); _fscs_completion fscs; echo "${{COMPREPLY[@]}}"; '
    line = 'eval "$(fscs completion bash)"; '
    line += ask.format(words="fscs de", last=1) + ask.format(words="fscs info --js", last=2)
    result = shell(line, PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert result.stdout.splitlines() == ["demo", "--json"], result.stderr
