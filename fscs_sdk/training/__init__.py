"""Training of few-shot heads on frozen backbones. Imports the rest of the SDK; nothing imports it.

``python -m fscs_sdk.training --help`` lists its commands.
"""
