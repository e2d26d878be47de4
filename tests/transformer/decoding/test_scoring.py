"""Scores of tokens against the search that found them, and alignment against the maps that `attention` draws."""

import pytest
import torch
from tiny_model import sentence, tiny_config, tiny_vocabulary, tiny_weights
from uneven_network import padded, sentences, settings, tiny_model

from transformer.decoding.ensemble import Ensemble
from transformer.decoding.scoring import score_tokens
from transformer.decoding.search import beam_search, length_penalty
from transformer.evaluation.attention import attention_maps
from transformer.model.transformer import Transformer
from transformer.tokens.vocabulary import EOS


@pytest.mark.parametrize("count", [1, 2])
def test_token_scores_sum_to_what_the_search_found(count: int) -> None:
    models, rows = [tiny_model(seed) for seed in range(count)], sentences(1, [7, 2, 9])
    found = beam_search(models[0] if count == 1 else Ensemble(models), padded(rows), settings(beam=4), 4)
    pairs = [(row, one) for row, hypotheses in zip(rows, found, strict=True) for one in hypotheses]
    scored = score_tokens(models, [row for row, _ in pairs], [one.tokens for _, one in pairs])
    for (row, one), scores in zip(pairs, scored, strict=True):
        length = len(one.tokens) + 1
        assert (len(scores.log_probs), len(scores.alignment), len(scores.alignment[0])) == (length, length, len(row))
        assert sum(scores.log_probs) / float(length_penalty(length, 0.6)) == pytest.approx(one.score, abs=1e-5)
        assert [sum(weights) for weights in scores.alignment] == pytest.approx([1.0] * length, abs=1e-5)


def test_alignment_is_the_mean_of_the_maps() -> None:
    vocabulary = tiny_vocabulary()
    model = Transformer(tiny_config(vocabulary).model, vocabulary.size).eval()
    model.load_state_dict(tiny_weights(vocabulary))
    texts = [(sentence(1, 4), sentence(2, 6)), (sentence(3, 9), sentence(4, 2))]
    pairs = [([*vocabulary.encode(source), EOS], vocabulary.encode(target)) for source, target in texts]
    scored = score_tokens([model], [source for source, _ in pairs], [target for _, target in pairs])
    for (source, target), scores in zip(texts, scored, strict=True):
        expected = attention_maps(model, vocabulary, source, target).cross.mean((0, 1))
        torch.testing.assert_close(torch.tensor(scores.alignment), expected, atol=1e-5, rtol=1e-4)
