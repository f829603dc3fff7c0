from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

from fastkd import Seeds
from fastkd.core.config import from_mapping, to_mapping
from fastkd.core.errors import ConfigError
from fastkd.distillation import METHODS, LossParts, Method, build_method


class Silent(Method):
    name = "silent"
    paper = "none"

    def prepare(self, teacher, student, train, *, epochs):
        pass

    def loss(self, step):
        return LossParts(kd=torch.zeros(()))


def test_every_file_with_a_method_registers_it_under_its_own_name():
    room = Path(inspect.getfile(Method)).parent
    files = {p.stem for p in room.glob("*.py") if "\nMETHODS.add(" in p.read_text(encoding="utf-8")}
    assert files == set(METHODS)
    assert {"bd", "cd", "de", "kd_ce", "rce_kd", "rd", "rrd"} <= files


def test_a_number_stands_for_its_seeds():
    assert build_method("rrd", {}, 7).seeds == Seeds(7)
    with pytest.raises(ConfigError, match=r"seed must be an integer in \[0, 2\*\*63\), got None"):
        build_method("rrd", {}, None)


def test_unknown_method_names_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown method 'kdce'.*Did you mean 'kd_ce'"):
        build_method("kdce", {}, Seeds(0))


@pytest.mark.parametrize("name", METHODS)
def test_options_survive_a_mapping(name):
    config = METHODS.get(name).config_type()
    assert from_mapping(type(config), to_mapping(config)) == config
    assert build_method(name, to_mapping(config), Seeds(0)).config == config


def test_a_method_needs_to_say_only_how_it_prepares_and_what_it_costs():
    method = Silent(None, Seeds(0))
    method.begin_epoch(0, None)
    assert method.negatives(0) is None
    assert Silent.cost(None, None) is None
    assert (method.optimizer_groups(), method.modules(), method.state_dict()) == ([], {}, {})
    method.load_state_dict({})
    with pytest.raises(ValueError, match=r"silent keeps no state, got \['foreign'\]"):
        method.load_state_dict({"foreign": np.zeros(1)})
