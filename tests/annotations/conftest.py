from __future__ import annotations

import pytest
from helpers.label_maps import random_labels

from rtseg.frame import Labels


@pytest.fixture(params=range(30))
def labels(request: pytest.FixtureRequest) -> Labels:
    return random_labels(request.param)
