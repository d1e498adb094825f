import math
import pickle
import time

import numpy as np
import pytest

from skanomaly import MedianDifference
from skanomaly.model_selection._costs import Cost, resident_bytes, seconds_at, state_bytes


@pytest.mark.parametrize("exponent", [1.2, 2.0])
def test_a_power_of_the_number_of_images(exponent):
    found = seconds_at(100, 5, 5**exponent, 10, 10**exponent)
    assert found == pytest.approx(100**exponent)


def test_a_constant_and_a_share_an_image():
    assert seconds_at(100, 5, 3 + 0.5 * 5, 10, 3 + 0.5 * 10) == pytest.approx(3 + 0.5 * 100)


def test_noise_never_makes_more_images_cheaper():
    assert seconds_at(100, 5, 2.0, 10, 1.0) == 1.0


@pytest.mark.skipif(math.isnan(resident_bytes()), reason="this system does not tell")
def test_peak_is_seen_though_the_memory_is_free_again():
    with Cost() as cost:
        held = np.ones(40 * 2**20, np.uint8)
        time.sleep(0.2)
        del held
    assert 30 * 2**20 < cost.peak_bytes < 200 * 2**20
    assert cost.seconds >= 0.2


def test_state_is_the_pickle():
    detector = MedianDifference()
    assert state_bytes(detector) == len(pickle.dumps(detector))
