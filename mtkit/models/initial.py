"""How the weights of a recurrent model are drawn: as its papers did, or as each module's default.

uniform      every parameter in ±range, biases and embeddings too: Sutskever et al. 2014 (0.08),
             Luong et al. 2015 (0.1)
orthogonal   the recurrent matrices orthogonal, gate by gate; the rest as by default
bahdanau     these too; the attention's W and U normal of deviation 0.001, its v and all biases
             zero, the rest normal of deviation 0.01 (Bahdanau et al. 2015, B.1)
"""

import torch
from torch import nn

from mtkit.recipe import RecurrentSection


def initialise(model: nn.Module, section: RecurrentSection) -> None:
    """Draw the parameters of a model anew, from torch's global generator, as its section says."""
    match section.initialisation:
        case "default":
            return
        case "uniform":
            for parameter in model.parameters():
                nn.init.uniform_(parameter, -section.initial_range, section.initial_range)
        case "orthogonal":
            _orthogonal(model)
        case "bahdanau":
            for name, parameter in model.named_parameters():
                _as_bahdanau(name, parameter)
            _orthogonal(model)


def _as_bahdanau(name: str, parameter: nn.Parameter) -> None:
    if parameter.dim() == 1 or name == "attention.energy.weight":
        nn.init.zeros_(parameter)
    elif name.startswith("attention."):
        nn.init.normal_(parameter, std=0.001)
    else:
        nn.init.normal_(parameter, std=0.01)


def _orthogonal(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if ".weight_hh_l" in name:
            for gate in torch.split(parameter.data, parameter.size(1)):
                nn.init.orthogonal_(gate)
