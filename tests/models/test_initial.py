"""Weights are drawn as the papers drew them."""

import pytest
import torch

from mtkit.models.build import build
from mtkit.models.seq2seq import Seq2Seq
from mtkit.recipe import RecurrentSection


def model(**changes: object) -> Seq2Seq:
    torch.manual_seed(1)
    small = {"kind": "recurrent", "width": 64, "embedding": 32, "decoder_layers": 1}
    return build(RecurrentSection.model_validate(small | changes), 90, 110)


def test_uniform_fills_its_range_in_every_parameter() -> None:
    for name, weight in model(initialisation="uniform", initial_range=0.08).named_parameters():
        assert weight.abs().max() <= 0.08, name
        assert weight.abs().max() > 0.06, name
        assert abs(weight.mean()) < 0.02, name


@pytest.mark.parametrize("kind", ["orthogonal", "bahdanau"])
@pytest.mark.parametrize("cell", ["gru_cho", "lstm"])
def test_recurrent_matrices_are_orthogonal_gate_by_gate(kind: str, cell: str) -> None:
    found = 0
    for name, weight in model(initialisation=kind, cell=cell).named_parameters():
        if "weight_hh" in name:
            for gate in weight.split(weight.size(1)):
                torch.testing.assert_close(gate @ gate.T, torch.eye(len(gate)), atol=1e-5, rtol=0)
                found += 1
    assert found == 5 * (3 if cell == "gru_cho" else 4)


def test_bahdanaus_normals() -> None:
    m = model(initialisation="bahdanau", decoder="bahdanau", memory="additive", encoder_layers=1)
    for name, weight in m.named_parameters():
        if weight.dim() == 1 or name == "attention.energy.weight":
            assert not weight.any(), name
        elif name.startswith("attention"):
            assert weight.std().item() == pytest.approx(0.001, rel=0.1), name
        elif "weight_hh" not in name:
            assert weight.std().item() == pytest.approx(0.01, rel=0.1), name
