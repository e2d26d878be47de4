"""Every value of the paper's sections 3, 5 and 6 with the params key that holds it in the presets."""

from dataclasses import dataclass

Plain = str | int | float | None
Four = tuple[Plain, Plain, Plain, Plain]  # one value a preset, in the order of PRESETS

PRESETS = ("wmt14-en-de-base", "wmt14-en-de-big", "wmt14-en-fr-base", "wmt14-en-fr-big")
NOT_STATED = "not stated"
VALID_PARTS = "valid parts of download.corpora"  # not a key: data/corpora.yaml says which they are


def same(value: Plain) -> Four:
    """One value for all four models."""
    return value, value, value, value


def by_size(base: Plain, big: Plain) -> Four:
    """One value a size of model."""
    return base, big, base, big


def by_pair(german: Plain, french: Plain) -> Four:
    """One value a pair of languages."""
    return german, german, french, french


@dataclass(frozen=True)
class Value:
    """A value of the paper and the key of ours.

    `key` is a params key, a quotient of two (`a / b`), or VALID_PARTS. `ours` is what the presets hold where that is
    not the paper's value; then `deviation` names the reason, a key of DEVIATIONS. A deviation may also go with equal
    values that stand for something slightly different.
    """

    section: str
    what: str
    paper: Four
    key: str
    ours: Four | None = None
    deviation: str = ""

    @property
    def expected(self) -> Four:
        """What the presets have to hold."""
        return self.paper if self.ours is None else self.ours


VALUES = (
    Value("3.1", "layers of the encoder, N", same(6), "model.encoder_layers"),
    Value("3.1", "layers of the decoder, N", same(6), "model.decoder_layers"),
    Value("3.1", "layer normalisation, after or before the sublayer", same("post"), "model.norm"),
    Value("3.1, Table 3", "d_model", by_size(512, 1024), "model.d_model"),
    Value("3.2.2, Table 3", "heads, h", by_size(8, 16), "model.heads"),
    Value("3.2.2", "d_k = d_v", same(64), "model.d_model / model.heads"),
    Value("3.2.2", "another d_k than d_v", same("none"), "model.key_size"),
    Value("3.3, Table 3", "d_ff", by_size(2048, 4096), "model.d_ff"),
    Value("3.5", "positions", same("sinusoidal"), "model.positions"),
    Value("5.1", "WMT 2014 data", by_pair("wmt14-en-de", "wmt14-en-fr"), "download.corpora", deviation="corpus"),
    Value("5.1", "shared vocabulary", by_pair(37000, 32000), "tokenization.vocabulary_size", deviation="vocabulary"),
    Value(
        "5.1", "target tokens of an update, as many source tokens", same(25000), "training.batch_target_tokens",
        deviation="tokens of an update",
    ),
    Value("5.2", "batches of like length in an update", same(8), "training.length_groups", deviation="one GPU"),
    Value("5.1", "longest sentence", same(NOT_STATED), "model.max_positions", same(256), "longest sentence"),
    Value("5.2", "updates", by_size(100000, 300000), "training.updates"),
    Value("5.2", "precision", same(NOT_STATED), "training.precision", same("auto"), "bf16"),
    Value("5.3", "Adam, beta1", same(0.9), "training.adam_beta1"),
    Value("5.3", "Adam, beta2", same(0.98), "training.adam_beta2"),
    Value("5.3", "Adam, epsilon", same(1e-9), "training.adam_epsilon"),
    Value("5.3", "fall of the learning rate after the warm-up", same("inverse_sqrt"), "training.schedule"),
    Value("5.3", "warm-up, updates", same(4000), "training.warmup_updates"),
    Value("5.3", "factor on equation 3", same(1.0), "training.learning_rate_scale"),
    Value("5.4, 6.1, Table 3", "dropout, P_drop", (0.1, 0.3, 0.1, 0.1), "model.dropout"),
    Value("5.4", "label smoothing", same(0.1), "training.label_smoothing"),
    Value("6.1", "checkpoints averaged, the last", by_size(5, 20), "averaging.count"),
    Value("6.1", "which of them", same("last"), "averaging.rule"),
    Value(
        "6.1", "time between checkpoints", same("10 minutes"), "training.checkpoint_every_updates",
        by_size(1500, 600), "ten minutes of the paper's machine",
    ),
    Value("6.1", "checkpoints kept for that", by_size(5, 20), "training.keep_last"),
    Value("6.1", "beam", same(4), "decoding.beam"),
    Value("6.1", "length penalty, alpha", same(0.6), "decoding.alpha"),
    Value("6.1", "longest output: tokens of the input +", same(50), "decoding.max_extra_length"),
    Value("6.1", "precision of the search", same(NOT_STATED), "decoding.precision", same("auto"), "bf16"),
    Value(
        "6.1", "test set", same("newstest2014"), "evaluation.test_sets",
        by_pair("newstest2014, newstest2014-filtered", "newstest2014"), "two test sets",
    ),
    Value("6.2", "development set", same("newstest2013"), VALID_PARTS),
)  # fmt: skip

# Parameters in millions, Table 3.
PARAMETERS = by_size(65, 213)

# Section, what the paper says, the module that does it, the tests that show it.
FIXED = (
    (
        "3.1", "LayerNorm(x + Sublayer(x)) around each sublayer",
        "transformer/model/layers.py", "tests/transformer/model/test_model.py",
    ),
    ("3.2.1", "softmax(Q K^T / sqrt(d_k)) V", "transformer/model/layers.py", "tests/transformer/model/test_model.py"),
    (
        "3.2.3", "the decoder sees no later position",
        "transformer/model/layers.py", "tests/transformer/model/test_model.py",
    ),
    ("3.3", "max(0, x W1 + b1) W2 + b2", "transformer/model/layers.py", "tests/transformer/model/test_model.py"),
    (
        "3.4", "one matrix for both embeddings and the projection; embeddings times sqrt(d_model)",
        "transformer/model/layers.py", "tests/transformer/model/test_model.py",
    ),
    (
        "3.5", "sines and cosines, wavelengths from 2 pi to 10000 x 2 pi",
        "transformer/model/layers.py", "tests/transformer/model/test_model.py",
    ),
    (
        "5.1", "sentences of like length are batched",
        "transformer/training/batching.py", "tests/transformer/training/test_batching.py",
    ),
    ("5.3", "equation 3", "transformer/training/run.py", "tests/transformer/training/test_objective.py"),
    (
        "5.4", "dropout on each sublayer's output and on embeddings + positions",
        "transformer/model/layers.py", "tests/transformer/model/test_model.py",
    ),
    (
        "5.4", "(1 - e) on the reference, e / V on all",
        "transformer/training/objective.py", "tests/transformer/training/test_objective.py",
    ),
    (
        "6.1", "the mean of the checkpoints' weights",
        "transformer/averaging/average.py", "tests/transformer/averaging/test_averaging.py",
    ),
    (
        "6.1", "log P / ((5 + length) / 6)^alpha",
        "transformer/decoding/search.py", "tests/transformer/decoding/test_search.py",
    ),
    (
        "6.1", "the search ends early where it can",
        "transformer/decoding/search.py", "tests/transformer/decoding/test_search.py",
    ),
    (
        "6.1", "tokenised BLEU, compounds split",
        "transformer/evaluation/scores.py", "tests/transformer/evaluation/test_quoted_bleu.py",
    ),
)  # fmt: skip

# Section, what the paper says, what there is here: values that no params key holds.
WITHOUT_KEY = (
    (
        "5.1", "4.5 million pairs en-de, 36 million en-fr",
        "4 508 785 and 40 836 715 are expected; `reports/corpus.json` counts those read, removed and kept",
    ),
    ("5.1", "approximately 25000 source tokens an update", "follows from the target tokens"),
    (
        "5.2", "8 P100 GPUs; 0.4 s an update and 12 hours for base, 1.0 s and 3.5 days for big",
        "`benchmarks/README.md` has what was measured here",
    ),
    ("6.1, Table 2", "training cost 3.3e18 (base) and 2.3e19 (big) floating-point operations", "not computed"),
    (
        "6.2, Table 3", "newstest2013, single checkpoints: base perplexity 4.92, BLEU 25.8; big 4.33, 26.4",
        "`reports/curves/validation.csv`: perplexity a piece of our vocabulary; BLEU of a greedy search on a part",
    ),
    ("6.2, Table 3", "rows A to E, variations of the base model", "`make ablations`"),
    ("6.3", "constituency parsing", "another task, left out"),
)  # fmt: skip

DEVIATIONS = {
    "corpus": (
        "The same corpora, from which pairs are removed that the paper does not speak of: empty, duplicate, badly "
        "aligned by length, numbers or placeholders, in a wrong script, and those near a sentence of a held-out "
        "set. reports/corpus.json counts them. Text is not tokenised; it is brought into Unicode form NFC. "
        "References of the held-out sets stay as published."
    ),
    "vocabulary": (
        "SentencePiece's byte-pair encoding on raw text, for both pairs, where the paper has subword-nmt on "
        "tokenised text for German and GNMT's word pieces for French: it needs no word tokeniser, decoding gives "
        "plain text again, and a character without a piece is spelled in bytes."
    ),
    "tokens of an update": (
        "Sentences fill an update until their target tokens reach 25000, end-of-sentence included; the source "
        "tokens follow from them. The paper says approximately 25000 of each."
    ),
    "one GPU": (
        "Eight groups of like length make an update however many devices there are, as eight GPUs made one in the "
        "paper: gradients do not depend on the machine."
    ),
    "longest sentence": (
        "Pairs with a side of more than 256 tokens are left out of training, and no translation is longer, so "
        "that the longest sentence does not decide the memory needed. tensor2tensor's limit was the same."
    ),
    "bf16": (
        "Matrix products in bfloat16 where the hardware has it, sums, softmax, loss, weights and Adam in float32. "
        "The paper's GPUs had no bfloat16. Attention and the projection with its loss are fused, and the step is "
        "compiled on a GPU: the same sums in another order."
    ),
    "ten minutes of the paper's machine": (
        "Ten minutes were 1500 updates of base and 600 of big (section 5.2: 0.4 s and 1.0 s an update), so that "
        "five and twenty checkpoints covered 6 % and 4 % of the training. Faster machines make more updates in "
        "ten minutes: five checkpoints would cover most of a training of one hour, and one of half an hour would "
        "not have five. Counted in updates the average is the paper's on any machine. The clock's rule is "
        "`averaging.rule: minutes` with `training.checkpoint_every_minutes: 10` and `keep_last` above the count."
    ),
    "two test sets": (
        "The paper does not say which newstest2014 it means. The full set of 3003 lines is the headline, as in "
        "tensor2tensor; for German the filtered set of 2737 lines, which the task itself scored, stands beside "
        "it."
    ),
    "biases": (
        "The four projections of attention have biases, as in torch's own layer; section 3.2.2 writes none. They "
        "are less than 0.1 % of the parameters."
    ),
    "validation while training": (
        "Loss on newstest2013 at intervals, and the BLEU of a greedy search on a part of it: for the curves only, "
        "no choice follows from them."
    ),
}
