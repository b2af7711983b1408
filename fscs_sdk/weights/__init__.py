"""Weights that can be trusted: the manifest, where files are, their download and their verification.

``manifest`` reads ``weights_manifest.json``, ``locate`` finds a model's files, ``sources`` gets one file, from the
package, by ``hub`` or by ``download``, ``imagenet`` gets backbones that are not ours, and ``verification`` holds a
file's bytes against the manifest.
"""

from fscs_sdk.weights.locate import ModelFiles, locate_model, obtain, place, verify
from fscs_sdk.weights.manifest import (
    BACKBONE_FILE,
    HEAD_FILE,
    PACKAGE_FOLDER,
    backbone_entries,
    list_models,
    read_manifest,
)

__all__ = [
    "BACKBONE_FILE",
    "HEAD_FILE",
    "PACKAGE_FOLDER",
    "ModelFiles",
    "backbone_entries",
    "list_models",
    "locate_model",
    "obtain",
    "place",
    "read_manifest",
    "verify",
]
