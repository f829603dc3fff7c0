import numpy as np
import pytest
import torch

from fastkd.core import ConfigError, Seeds


def test_streams_are_pure_functions_of_seed_name_and_counters():
    assert Seeds(3).key("a", 1, 2) == Seeds(3).key("a", 1, 2)
    keys = {Seeds(s).key(n, *c) for s in (0, 1) for n in ("a", "b") for c in ((), (0,), (0, 0), (1,), (0, 1))}
    assert len(keys) == 20


def test_counters_do_not_run_together():
    assert Seeds(0).key("a", 1, 11) != Seeds(0).key("a", 11, 1)
    assert Seeds(0).key("a", 11) != Seeds(0).key("a", 1, 1)


def test_generators_do_not_depend_on_draws_made_before():
    seeds = Seeds(7)
    first = seeds.numpy("shuffle", 4).permutation(50)
    seeds.numpy("shuffle", 3).permutation(50)
    np.testing.assert_array_equal(first, seeds.numpy("shuffle", 4).permutation(50))
    noise = torch.rand(5, generator=seeds.torch("noise", 4))
    assert torch.equal(noise, torch.rand(5, generator=seeds.torch("noise", 4)))


def test_state_round_trip():
    assert Seeds.from_state_dict(Seeds(11).state_dict()) == Seeds(11)


def test_children_are_independent():
    assert Seeds(0).child("teacher").key("init") != Seeds(0).child("student").key("init")


@pytest.mark.parametrize("bad", [-1, 2**63, 1.5, True, "0"])
def test_bad_seed_is_named(bad):
    with pytest.raises(ConfigError, match="seed must be an integer"):
        Seeds(bad)
