"""Weights that can be trusted: the manifest, where files are, their download and their verification.

``manifest`` reads ``weights_manifest.json``, ``locate`` finds a model's files, ``sources`` gets one file, from the
package, by ``hub`` or by ``download``, ``imagenet`` gets backbones that are not ours, and ``verification`` holds a
file's bytes against the manifest.
"""

from fscs_sdk.weights.locate import Finding, ModelFiles, locate_model, obtain, place, verify
from fscs_sdk.weights.manifest import (
    BACKBONE_FILE,
    HEAD_FILE,
    PACKAGE_FOLDER,
    HubSource,
    PackageSource,
    TorchvisionSource,
    UrlSource,
    WeightFile,
    backbone_entries,
    backbone_weights,
    list_models,
    model_files,
    read_manifest,
)
from fscs_sdk.weights.sources import fetch

__all__ = [
    "BACKBONE_FILE",
    "HEAD_FILE",
    "PACKAGE_FOLDER",
    "Finding",
    "HubSource",
    "ModelFiles",
    "PackageSource",
    "TorchvisionSource",
    "UrlSource",
    "WeightFile",
    "backbone_entries",
    "backbone_weights",
    "fetch",
    "list_models",
    "locate_model",
    "model_files",
    "obtain",
    "place",
    "read_manifest",
    "verify",
]
