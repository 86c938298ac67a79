from importlib.metadata import entry_points

import numpy as np
import pytest
import sagd_filter_template
from sagd_filter_template import RingOptions, weight

from sagd_cli.plugin import FrequencyGrid
from sagd_cli.plugin.testing import check_filter, check_plugin

(RING,) = sagd_filter_template.sagd_filters()


@pytest.mark.parametrize("options", [{}, {"center": 0.0}, {"center": 1.0, "width": 0.5, "floor": 0.0}])
def test_the_family_keeps_the_contract(options):
    check_plugin(RING)
    check_filter(RING, options)


def test_the_profile_is_a_gaussian_of_the_stated_centre_and_width_over_the_floor():
    # On 20 samples in one dimension rho is 0, 0.1, ..., 1.
    w = weight(FrequencyGrid((20,)), RingOptions(center=0.4, width=0.2, floor=0.1))
    assert np.argmax(w) == 4
    np.testing.assert_allclose(w[4], 1.1, rtol=1e-12)
    np.testing.assert_allclose(w[[2, 6]], 0.1 + np.exp(-1 / 2), rtol=1e-12)
    np.testing.assert_allclose(w[[0, 8]], 0.1 + np.exp(-2), rtol=1e-12)


def test_centre_and_width_are_in_the_units_of_the_filter():
    # In one dimension the corner of the spectrum is 1 in rho and 0.5 in cycles/sample.
    in_rho = weight(FrequencyGrid((32,)), RingOptions(center=0.5, width=0.2))
    in_cycles = weight(FrequencyGrid((32,), "cycles"), RingOptions(center=0.25, width=0.1))
    np.testing.assert_allclose(in_cycles, in_rho, rtol=1e-12)


def test_the_entry_point_names_the_module():
    (point,) = entry_points(group="sagd", name="ring")
    assert point.load() is sagd_filter_template
