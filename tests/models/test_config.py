from __future__ import annotations

import pytest
import torch

from fastkd import Seeds
from fastkd.core.config import from_mapping
from fastkd.core.errors import ConfigError
from fastkd.models import BPRMF, MODELS, LightGCN, ModelConfig, build_model, model_mapping
from tests.contracts.interactions import random_interactions


def test_registry_builds_each_model():
    train = random_interactions()
    assert list(MODELS) == ["bpr_mf", "cdae", "deepfm", "lightgcn", "neumf", "sasrec", "simplex"]
    assert isinstance(build_model(ModelConfig(name="bpr_mf"), train, Seeds(0)), BPRMF)
    assert isinstance(build_model(ModelConfig(name="lightgcn"), train, Seeds(0)), LightGCN)


def test_a_number_stands_for_its_seeds():
    train = random_interactions()
    first, second = (build_model(ModelConfig(name="bpr_mf"), train, seeds) for seeds in (7, Seeds(7)))
    assert torch.equal(first.tables().users, second.tables().users)
    with pytest.raises(ConfigError, match=r"seed must be an integer in \[0, 2\*\*63\), got -1"):
        build_model(ModelConfig(name="bpr_mf"), train, -1)


def test_unknown_model_names_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown model 'lightgnc'.*'lightgcn'"):
        build_model(ModelConfig(name="lightgnc"), random_interactions(), Seeds(0))


def test_config_from_a_mapping_refuses_unknown_keys():
    assert from_mapping(ModelConfig, {"name": "lightgcn", "dim": 20, "layers": 2}).layers == 2
    with pytest.raises(ConfigError, match=r"dimm.*dim"):
        from_mapping(ModelConfig, {"dimm": 20})


def test_own_options_are_kept_where_there_are_any():
    assert "options" not in model_mapping(ModelConfig(name="bpr_mf"))
    assert model_mapping(ModelConfig(name="neumf", options={"hidden": 2}))["options"] == {"hidden": 2}
    with pytest.raises(ConfigError, match=r"unknown key 'model.options.hidden'"):
        build_model(ModelConfig(name="bpr_mf", options={"hidden": 2}), random_interactions(), Seeds(0))
