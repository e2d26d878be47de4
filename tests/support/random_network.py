"""Networks with random weights everywhere, and their attention as torch's own."""

import torch
from torch import nn

from transformer.model.transformer import Transformer
from transformer.params import ModelParams


def params(**changes: object) -> ModelParams:
    base = {
        "d_model": 32,
        "d_ff": 48,
        "heads": 4,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "dropout": 0.0,
        "positions": "sinusoidal",
        "norm": "post",
        "max_positions": 64,
    }
    return ModelParams.model_validate({**base, **changes})


def network(vocabulary: int = 50, **changes: object) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(params(**changes), vocabulary).eval()
    for parameter in model.parameters():  # biases and norms too, or an error in one of them would not show
        nn.init.normal_(parameter, std=0.3)
    return model


def copy_attention(ours: nn.Module, torchs: nn.MultiheadAttention) -> None:
    torchs.in_proj_weight.data = ours.project_in.weight.data
    torchs.in_proj_bias.data = ours.project_in.bias.data
    torchs.out_proj.weight.data = ours.project_out.weight.data
    torchs.out_proj.bias.data = ours.project_out.bias.data
