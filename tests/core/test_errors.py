import pytest

from fastkd.core import errors

KINDS = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.FastKDError)]


@pytest.mark.parametrize("kind", [k for k in KINDS if k is not errors.FastKDError], ids=lambda k: k.__name__)
def test_each_error_is_also_a_built_in_that_callers_expect(kind):
    assert issubclass(kind, (ValueError, RuntimeError))


def test_input_errors_are_value_errors_and_states_are_runtime_errors():
    assert issubclass(errors.DataError, ValueError)
    assert issubclass(errors.CheckpointError, RuntimeError)


def test_a_warning_can_be_told_from_those_of_others():
    assert issubclass(errors.FastKDWarning, UserWarning)
    assert not issubclass(errors.FastKDWarning, errors.FastKDError)


def test_the_nearest_name_is_suggested():
    assert errors.did_you_mean("embeding", ["embedding", "user"]) == " Did you mean 'embedding'?"
