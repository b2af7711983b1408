"""Weights that can be trusted: the manifest, where files are, their download and their verification.

``entries`` reads the manifest, ``models`` finds a model's files, ``sources`` gets one file, from the package, by
``hub`` or by ``download``, and ``verification`` holds its bytes against the manifest. ``publishing`` writes Hub
repositories, with a ``card``.
"""

from fscs_sdk.weights.entries import (
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
    manifest,
    model_files,
)
from fscs_sdk.weights.models import Finding, ModelFiles, locate, obtain, place, verify
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
    "locate",
    "manifest",
    "model_files",
    "obtain",
    "place",
    "verify",
]
