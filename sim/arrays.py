"""The type of an array of which the text beside it says shape, kind and unit."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
