"""Is it there, and where? Few-shot classification and segmentation from a handful of labelled photos.

>>> from fscs_sdk import FewShotSegmenter
>>> model = FewShotSegmenter.from_pretrained()
>>> prediction = model.predict("street.jpg", {"dog": ["dog.jpg", "dog_mask.png"]})
>>> prediction.present, prediction.mask
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fscs_sdk.prediction import Failure as Failure
    from fscs_sdk.prediction import Prediction as Prediction
    from fscs_sdk.references import read_supports as read_supports
    from fscs_sdk.segmenter import FewShotSegmenter as FewShotSegmenter
    from fscs_sdk.supports import Shot as Shot
    from fscs_sdk.supports import SupportSet as SupportSet
    from fscs_sdk.weights import list_models as list_models

__version__ = version("fscs-sdk")

_HOMES = {
    "Failure": "fscs_sdk.prediction",
    "FewShotSegmenter": "fscs_sdk.segmenter",
    "Prediction": "fscs_sdk.prediction",
    "Shot": "fscs_sdk.supports",
    "SupportSet": "fscs_sdk.supports",
    "list_models": "fscs_sdk.weights",
    "read_supports": "fscs_sdk.references",
}
__all__ = [
    "Failure",
    "FewShotSegmenter",
    "Prediction",
    "Shot",
    "SupportSet",
    "__version__",
    "list_models",
    "read_supports",
]


def __getattr__(name: str) -> object:
    """Load a public name's module when it is first used: ``import fscs_sdk`` itself loads neither torch nor NumPy."""
    if name not in _HOMES:
        raise AttributeError(f"module 'fscs_sdk' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
