"""Everything that the model said, as NumPy arrays."""

from io import BytesIO

import numpy as np

from fscs_sdk.prediction import Prediction


def encode(prediction: Prediction, *, photo: str) -> dict[str, bytes]:
    """``.npz``, without pickles: ``np.load(path)`` as it is by default reads it.

    Arrays: ``names`` unicode (N,), ``scores`` float64 (N,), ``present`` bool (N,), ``foreground`` float32 (N, H, W),
    ``background`` float32 (H, W), ``mask`` as in the prediction.

    Raises:
        ValueError: a class name ends in the character NUL, which NumPy's strings drop.
    """
    for name in prediction.names:
        if name.endswith("\0"):
            raise ValueError(f"NumPy cannot keep the class name {name!r}: it ends in a NUL character; rename the class")
    buffer = BytesIO()
    np.savez(  # compressed it would be a fifth smaller, and take longer than the answer
        buffer,
        names=np.array(prediction.names, dtype=np.str_),
        scores=np.array([prediction.scores[name] for name in prediction.names], np.float64),
        present=np.array([prediction.present[name] for name in prediction.names], np.bool_),
        foreground=prediction.foreground,
        background=prediction.background,
        mask=prediction.mask,
    )
    return {".npz": buffer.getvalue()}
