"""Numbers as a reader wants them."""

import pytest

from fastkd.core.figures import digits, prefixed


def test_digits_and_never_a_power_of_ten():
    values = (0.04, 1.23456, 999.6, 999.96, 10_842.3, 4_567_890.0)
    assert [digits(v, 3) for v in values] == ["0.04", "1.23", "1,000", "1,000", "10,842", "4,567,890"]


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0.5, "0.5 "), (5.0, "5 "), (999.6, "1 k"), (1500.0, "1.5 k"), (999_999, "1 M"), (2.5e9, "2.5 G"),
        (1.2345e14, "123 T"), (5e22, "5e+04 E"),
    ],
)  # fmt: skip
def test_an_amount_has_a_prefix(number, shown):
    assert prefixed(number) == shown
