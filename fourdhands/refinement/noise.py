"""Noise that lasts, as networks' errors and shaking cameras do."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter


def lasting(white: NDArray[Any], step: float, seconds: float) -> NDArray[np.float64]:
    """White noise turned to an Ornstein-Uhlenbeck process of the same size.

    Args:
        white: (T, ...) of variance 1.
        step: seconds from frame to frame.
        seconds: after which the process has forgotten all but 1 / e of itself.

    Returns:
        (T, ...) of variance 1 from the first frame on.
    """
    keep = np.exp(-step / seconds)
    fresh = np.sqrt(1 - keep**2) * white
    fresh[:1] = white[:1]
    return np.asarray(lfilter([1.0], [1.0, -keep], fresh, axis=0))
