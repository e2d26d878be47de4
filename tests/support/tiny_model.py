"""A small random model folder with a real vocabulary, for the tests of whatever loads or runs one."""

from collections import Counter
from pathlib import Path

import torch

from transformer.data.tokenize.learn import train_vocabulary
from transformer.files import write_json
from transformer.model.folder import ModelConfig, write_model
from transformer.model.transformer import Transformer
from transformer.params import DECODING_FILE, DecodingParams, LanguageParams, ModelParams, TokenizationParams
from transformer.tokens.vocabulary import Vocabulary

TEXT = "the light door turns on off when motion stops in kitchen hall and garden is open closed now"
WORDS = TEXT.split()
MAX_POSITIONS = 32
TINY_DECODING = DecodingParams(beam=4, alpha=0.6, max_extra_length=50, batch_tokens=4096)


def sentence(seed: int, words: int) -> str:
    """A sentence of the vocabulary's words, the same for the same seed."""
    chosen = torch.randint(len(WORDS), (words,), generator=torch.Generator().manual_seed(seed)).tolist()
    return " ".join(WORDS[index] for index in chosen)


def tiny_config(vocabulary: Vocabulary) -> ModelConfig:
    model = ModelParams(
        d_model=16, d_ff=32, heads=2, encoder_layers=1, decoder_layers=1,
        dropout=0.1, positions="sinusoidal", norm="pre", max_positions=MAX_POSITIONS,
    )  # fmt: skip
    return ModelConfig(
        languages=LanguageParams(source="en", target="de"), vocabulary_size=vocabulary.size, model=model
    )


def tiny_vocabulary() -> Vocabulary:
    params = TokenizationParams(
        vocabulary_size=330, character_coverage=0.9995, training_pairs=1000, model=None, new_pieces=0
    )
    return train_vocabulary(params, Counter(" ".join(sentence(seed, 9) for seed in range(200)).split()).items())


def tiny_weights(vocabulary: Vocabulary, seed: int = 0) -> dict[str, torch.Tensor]:
    """Large random matrices, for uneven distributions; byte pieces are kept unlikely, so that words come out."""
    torch.manual_seed(seed)
    weights = Transformer(tiny_config(vocabulary).model, vocabulary.size).state_dict()
    weights = {name: torch.randn_like(tensor) if tensor.dim() > 1 else tensor for name, tensor in weights.items()}
    weights["embedding.weight"][[vocabulary.is_byte(piece) for piece in range(vocabulary.size)]] = 0.0
    return weights


def write_tiny_model(folder: Path) -> None:
    vocabulary = tiny_vocabulary()
    write_model(folder, tiny_config(vocabulary), tiny_weights(vocabulary), vocabulary)
    write_json(folder / DECODING_FILE, TINY_DECODING.model_dump())


def write_uneven_model(folder: Path, emitted: bool = False, **params: object) -> Path:
    """A random model with uneven distributions; with `emitted`, special ids are as likely as any word."""
    vocabulary = tiny_vocabulary()
    config = tiny_config(vocabulary)
    shape = config.model.model_copy(update={"encoder_layers": 2, "decoder_layers": 2, **params})
    config = config.model_copy(update={"model": shape})
    torch.manual_seed(3)
    weights = Transformer(config.model, vocabulary.size).state_dict()
    weights = {name: 0.7 * torch.randn_like(one) if one.dim() > 1 else one for name, one in weights.items()}
    # Biases and norms that are not those of a new network, or a swapped one would not be seen.
    weights = {name: one + 0.2 * torch.randn_like(one) if one.dim() == 1 else one for name, one in weights.items()}
    weights["embedding.weight"][[vocabulary.is_byte(piece) for piece in range(vocabulary.size)]] = 0.0
    if not emitted:
        weights["embedding.weight"][:3] = 0.0
    write_model(folder, config, weights, vocabulary)
    write_json(folder / DECODING_FILE, TINY_DECODING.model_dump())
    return folder
