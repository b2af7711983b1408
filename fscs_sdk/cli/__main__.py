"""``python -m fscs_sdk.cli`` is ``fscs``."""

from fscs_sdk.cli import main

main()
