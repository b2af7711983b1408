"""The process behind ``hub.Client``: a line of JSON in, a call, a line of JSON out."""

import json
import sys
import time
from pathlib import Path

from fscs_sdk.weights import locate as locating
from fscs_sdk.weights import locate_model, manifest
from fscs_sdk.weights.manifest import parse_file
from fscs_sdk.weights.sources import fetch

_sleep = time.sleep


def fetch_file(entry, **options):
    return str(fetch(parse_file(entry), **options))


def fetch_limited(entry, limit, **options):
    """With a limit on the size of files that this process may write: a full disk."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        return fetch_file(entry, **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def locate(name, **options):
    files = locate_model(name, **options)
    return [str(files.head), str(files.backbone)]


def verify(name, **options):
    return [[finding.role, str(finding.path), finding.wrong] for finding in locating.verify(name, **options)]


def use_manifest(path):
    manifest.MANIFEST_PLACES = (Path(path),)


def command(*arguments):
    from click.testing import CliRunner

    from fscs_sdk.cli import main

    result = CliRunner().invoke(main, list(arguments))
    return [result.exit_code, result.stdout, result.stderr]


def main():
    import huggingface_hub.constants

    huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = 1 << 14  # the files here are small
    time.sleep = lambda seconds: _sleep(min(seconds, 0.02))
    calls = {call.__name__: call for call in (fetch_file, fetch_limited, locate, verify, use_manifest, command)}
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"value": calls[asked["do"]](*asked["arguments"], **asked["options"])}
        except Exception as error:  # noqa: BLE001 (whatever it is, the test is to see it)
            kinds = [kind.__name__ for kind in type(error).__mro__]
            answer = {"kinds": kinds, "text": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
