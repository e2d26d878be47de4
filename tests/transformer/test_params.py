"""Every preset is complete and valid; a wrong key or value is one line that names it."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_inputs import TINY_PARAMS

from transformer.errors import ParamsError
from transformer.params import FilterParams, Params, load_params, params_from

CHECKOUT = Path(__file__).parents[2]
PRESETS = sorted((CHECKOUT / "presets").glob("*.yaml"))


def test_the_presets_are_those_promised() -> None:
    assert [path.stem for path in PRESETS] == [
        "interface-strings", "multi30k", "wmt14-en-de-base", "wmt14-en-de-big", "wmt14-en-fr-base", "wmt14-en-fr-big",
    ]  # fmt: skip


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_every_preset_is_valid_and_comments_every_paper_value(preset: Path) -> None:
    params = load_params(preset)
    assert set(params.download.corpora) <= set(yaml.safe_load((CHECKOUT / "data" / "corpora.yaml").read_text()))
    assert params.averaging.count <= params.training.keep_last
    assert params.model.max_positions <= params.training.micro_batch_tokens
    assert preset.read_text().count("# paper, ") >= 20


def test_the_default_is_the_interface_strings_preset() -> None:
    assert (CHECKOUT / "params.yaml").read_text() == (CHECKOUT / "presets" / "interface-strings.yaml").read_text()


@pytest.mark.parametrize(
    ("preset", "shape"),
    [
        # d_model, d_ff, heads, layers, dropout, updates, checkpoints averaged, vocabulary (paper, Table 3, 5.1-6.1)
        ("wmt14-en-de-base", (512, 2048, 8, 6, 0.1, 100_000, 5, 37_000)),
        ("wmt14-en-de-big", (1024, 4096, 16, 6, 0.3, 300_000, 20, 37_000)),
        ("wmt14-en-fr-base", (512, 2048, 8, 6, 0.1, 100_000, 5, 32_000)),
        ("wmt14-en-fr-big", (1024, 4096, 16, 6, 0.1, 300_000, 20, 32_000)),
    ],
)
def test_wmt14_presets_hold_the_papers_values(preset: str, shape: tuple[float, ...]) -> None:
    params = load_params(CHECKOUT / "presets" / f"{preset}.yaml")
    model, training, decoding = params.model, params.training, params.decoding
    assert model.encoder_layers == model.decoder_layers
    assert shape == (
        model.d_model, model.d_ff, model.heads, model.encoder_layers, model.dropout, training.updates,
        params.averaging.count, params.tokenization.vocabulary_size,
    )  # fmt: skip
    assert (training.label_smoothing, training.warmup_updates, training.learning_rate_scale) == (0.1, 4000, 1.0)
    assert (training.adam_beta1, training.adam_beta2, training.adam_epsilon) == (0.9, 0.98, 1e-9)
    assert training.batch_target_tokens == 25_000
    # The last ones, ten minutes apart at the paper's 0.4 and 1.0 s an update (5.2, 6.1).
    assert (params.averaging.rule, params.averaging.minutes_apart) == ("last", 10)
    assert training.checkpoint_every_updates == (1500 if "base" in preset else 600)
    assert (decoding.beam, decoding.alpha, decoding.max_extra_length) == (4, 0.6, 50)
    assert (model.positions, model.norm) == ("sinusoidal", "post")


def changed(content: dict[str, Any], key: str, value: object) -> dict[str, Any]:
    section, name = key.split(".")
    return {**content, section: {**content[section], name: value}}


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("training.updates", 0, "training.updates = 0: input should be greater than or equal to 1"),
        ("training.updates", "many", "training.updates = 'many': input should be a valid integer"),
        ("training.updates", 1.5, "training.updates = 1.5: input should be a valid integer"),
        ("training.lr", 1, "training.lr is not a key; allowed here: seed, updates,"),
        ("training.devices", 2, "training.devices is not a key; it has moved, write compute.devices instead"),
        (
            "preparation.executor",
            "dask",
            "preparation.executor is not a key; it has moved, write compute.executor instead",
        ),
        ("model.norm", "mid", "model.norm = 'mid': input should be 'post' or 'pre'"),
        ("model.dropout", 1.0, "model.dropout = 1.0: input should be less than 1"),
        ("model.heads", 5, "model: d_model must be a multiple of 2 x heads = 10, not 192"),
        ("evaluation.test_sets", [], "evaluation.test_sets = []: list should have at least 1 item"),
    ],
)
def test_a_wrong_key_or_value_is_named(key: str, value: object, told: str) -> None:
    content = yaml.safe_load(PRESETS[0].read_text())
    with pytest.raises(ParamsError) as caught:
        params_from(changed(content, key, value), "params.yaml")
    assert str(caught.value).startswith(f"params.yaml: {told}")
    assert "\n" not in str(caught.value)


def test_a_missing_section_and_an_unknown_one_are_named() -> None:
    content = yaml.safe_load(PRESETS[0].read_text())
    with pytest.raises(ParamsError, match=r"^p: extra is not a key; allowed here: languages, download,"):
        params_from({**content, "extra": {}}, "p")
    del content["decoding"]
    with pytest.raises(ParamsError, match=r"^p: decoding is missing$"):
        params_from(content, "p")


@pytest.mark.parametrize(
    ("text", "told"), [("a: [", "line 2: not YAML"), ("- 1", "must hold the sections languages")]
)
def test_a_file_that_is_no_params_file_is_named(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError, match=told):
        load_params(tmp_path / "params.yaml")
    with pytest.raises(ParamsError, match="is missing: copy one of presets/"):
        load_params(tmp_path / "nothing.yaml")


def test_params_cannot_be_changed(tiny_params: Params) -> None:
    with pytest.raises(ValueError, match="frozen"):
        tiny_params.training.seed = 2


@pytest.mark.parametrize(
    ("source", "target", "told"),
    [
        ("en", "xx", "languages.target = 'xx': 'xx' is not a known language code: write it as in de, deu, zh-Hans"),
        ("jp", "en", "languages.source = 'jp': 'jp' is not a known language code: did you mean ja?"),
        ("en", False, 'languages.target = False: a bare no or false is no text in YAML: write "no", in quotes'),
        ("en", 3, "languages.target = 3: input should be a valid string"),
        ("de", "deu", "languages.target = 'deu': the source, 'de', is the same language"),
        ("zh_CN", "zho_Hans", "languages.target = 'zho_Hans': the source, 'zh_CN', is the same language"),
    ],
)
def test_languages_are_checked_before_any_work(source: object, target: object, told: str) -> None:
    with pytest.raises(ParamsError) as caught:
        params_from({**TINY_PARAMS, "languages": {"source": source, "target": target}}, "p")
    assert str(caught.value).startswith(f"p: {told}")


@pytest.mark.parametrize("target", ["no", "nor", "zh-Hant", "zho_Hans", "pt_BR", "sr-Latn"])
def test_every_spelling_of_a_language_is_taken_as_it_is(target: str) -> None:
    languages = {"source": "en", "target": target}
    assert params_from({**TINY_PARAMS, "languages": languages}, "p").languages.target == target


def test_every_filter_can_be_switched_off() -> None:
    off = dict.fromkeys(FilterParams.model_fields, False)
    found = params_from({**TINY_PARAMS, "preparation": {**TINY_PARAMS["preparation"], "filters": off}}, "p")
    assert not any(found.preparation.filters.model_dump().values())


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("length", True, "preparation.filters.length = True: input should be a valid integer"),
        ("length", 0, "preparation.filters.length = 0: input should be greater than or equal to 1"),
        ("length_ratio", 0.5, "preparation.filters.length_ratio = 0.5: input should be greater than or equal to 1"),
        ("number_mismatch", True, "preparation.filters.number_mismatch = True: input should be 'any' or 'conflict'"),
        ("empty", None, "preparation.filters.empty = None: input should be a valid boolean"),
        ("typo", 1, "preparation.filters.typo is not a key; allowed here: empty, identical, length,"),
    ],
)
def test_wrong_settings_of_filters(key: str, value: object, told: str) -> None:
    filters = {**TINY_PARAMS["preparation"]["filters"], key: value}
    with pytest.raises(ParamsError) as caught:
        params_from({**TINY_PARAMS, "preparation": {**TINY_PARAMS["preparation"], "filters": filters}}, "p")
    assert str(caught.value).startswith(f"p: {told}")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("max_words", "preparation.filters.length"),
        ("max_length_ratio", "preparation.filters.length_ratio"),
        ("near_duplicate_jaccard", "preparation.filters.held_out"),
    ],
)
def test_filters_that_have_moved_say_where_they_are(old: str, new: str) -> None:
    with pytest.raises(ParamsError, match=rf"preparation\.{old} is not a key; it has moved, write {new} instead"):
        params_from({**TINY_PARAMS, "preparation": {**TINY_PARAMS["preparation"], old: 1}}, "p")


@pytest.mark.parametrize("path", [CHECKOUT / "params.yaml", *sorted((CHECKOUT / "presets").glob("*.yaml"))], ids=str)
def test_params_are_recorded_as_they_stand_in_the_file(path: Path) -> None:
    """Lineage compares what a stage recorded with what DVC read from the file."""
    recorded = load_params(path).model_dump()
    for section, values in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        assert {key: recorded[section][key] for key in values} == values
