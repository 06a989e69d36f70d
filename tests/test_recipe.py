"""Recipes: read, changed, checked and written back, and what is said of the wrong ones."""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtkit.errors import RecipeError
from mtkit.recipe import (
    DataSection,
    OptimizerSection,
    Recipe,
    RecurrentSection,
    Section,
    TransformerSection,
    knobs,
    nearest_key,
)


def refused(text: str, changes: Sequence[str] = ()) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        Recipe.parse(text, "x.toml", changes)
    assert "\n" not in str(caught.value), "one sentence"
    return caught.value


def changed(*changes: str) -> Recipe:
    return Recipe.parse("", changes=changes)


def test_recipe_of_nothing_is_the_defaults() -> None:
    assert Recipe.parse("") == Recipe()
    assert isinstance(Recipe().model, TransformerSection)


def test_recipe_reads_every_section() -> None:
    recipe = Recipe.parse(
        """
        title = "한국어 → English"
        [data]
        train = ["a.tsv", "b.tsv"]
        source_language = "no"
        [tokenizer]
        kind = "unigram"
        [model]
        kind = "recurrent"
        memory = "additive"
        [training]
        epochs = 2
        [training.optimizer]
        betas = [0.9, 0.999]
        [training.schedule]
        kind = "noam"
        [validation]
        metric = "chrf"
        [search]
        beam = 1
        """
    )
    assert recipe.title == "한국어 → English"
    assert recipe.data.train == ("a.tsv", "b.tsv")
    assert recipe.data.source_language == "no", "Norwegian, not false"
    assert recipe.tokenizer.kind == "unigram"
    assert isinstance(recipe.model, RecurrentSection)
    assert recipe.model.memory == "additive"
    assert recipe.training.epochs == 2.0
    assert recipe.training.optimizer.betas == (0.9, 0.999)
    assert recipe.training.schedule.kind == "noam"
    assert (recipe.validation.metric, recipe.search.beam) == ("chrf", 1)


@pytest.mark.parametrize(
    ("text", "key", "meant"),
    [
        ("[training]\nmax_token = 3", "training.max_token", "training.max_tokens"),
        ("[training]\nwarmup_step = 3", "training.warmup_step", "training.schedule.warmup"),
        ("[training]\nwarmup = 3", "training.warmup", "training.schedule.warmup"),
        ("[search]\nbeam_size = 3", "search.beam_size", "search.beam"),
        ("[validation]\nbem = 3", "validation.bem", "validation.beam"),
        ('[model]\nkind = "transformer"\nhead = 3', "model.head", "model.heads"),
        ('titel = "x"', "titel", "title"),
        ("[data]\nsourcelanguage = 'de'", "data.sourcelanguage", "data.source_language"),
        (
            "[training.optimizer]\nepsilom = 1",
            "training.optimizer.epsilom",
            "training.optimizer.epsilon",
        ),
    ],
)
def test_recipe_unknown_keys_are_refused_with_the_nearest(text: str, key: str, meant: str) -> None:
    error = refused(text)
    assert str(error) == f"x.toml: unknown key {key}"
    assert error.hint == f"did you mean {meant}?"


def test_recipe_unknown_keys_like_no_other_point_to_the_list() -> None:
    assert refused("zzzzqqqq = 1").hint == "see: mtkit recipe explain"
    assert nearest_key("zzzzqqqq") is None


def test_recipe_keys_of_the_other_kind_are_named_so() -> None:
    error = refused('[model]\nkind = "transformer"\ncell = "gru"')
    assert str(error) == "x.toml: unknown key model.cell"
    assert error.hint == "model.cell belongs to another model.kind"


@pytest.mark.parametrize(
    ("text", "flag"),
    [("[model]\nwidth = 8", ""), ('[model]\nkind = "transfomer"', "--set model.kind=recurrent")],
)
def test_recipe_model_kind_must_be_named(text: str, flag: str) -> None:
    error = refused(text)
    assert str(error) == "x.toml: model.kind is missing or unknown"
    assert error.hint is not None
    assert error.hint.startswith(flag)
    assert error.hint.endswith('write kind = "transformer" or "recurrent"')


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("[training]\nmax_tokens = 'many'", "training.max_tokens", "'many'"),
        ("[training]\nmax_tokens = 2.5", "training.max_tokens", "2.5"),
        ("[training]\nmax_tokens = 0", "training.max_tokens", "0"),
        ("[training]\nupdates = -1", "training.updates", "-1"),
        ("[training.optimizer]\nrate = nan", "training.optimizer.rate", "nan"),
        ("[training.optimizer]\nkind = 'adamant'", "training.optimizer.kind", "'adamant'"),
        ("[training]\nlabel_smoothing = 1", "training.label_smoothing", "1"),
        ("[data]\nstreaming = 'perhaps'", "data.streaming", "'perhaps'"),
        ("[data]\ntrain = 'x.tsv'", "data.train", "'x.tsv'"),
        ("[data]\ntrain = ['x', 1]", "data.train.1", "1"),
        ("title = 1", "title", "1"),
        ("training = 3", "training", "3"),
        ("model = 3", "model", "3"),
        ("[model]\nkind = 'recurrent'\ncell = 'gur'", "model.cell", "'gur'"),
        ("[model]\nkind = 'transformer'\nwidth = 'wide'", "model.width", "'wide'"),
        ("[model]\nkind = 'transformer'\ndropout = 1.0", "model.dropout", "1.0"),
    ],
)
def test_recipe_wrong_values_are_refused_by_key_and_value(text: str, key: str, value: str) -> None:
    error = refused(text)
    assert str(error).startswith(f"x.toml: {key} = {value}: ")
    assert error.hint == f"see: mtkit recipe explain {key.removesuffix('.1')}"


def test_recipe_heads_must_divide_width() -> None:
    error = refused("[model]\nkind = 'transformer'\nwidth = 512\nheads = 7")
    assert str(error) == "x.toml: model: heads = 7 does not divide width = 512"
    assert error.hint == "--set model.heads=4"


def test_recipe_says_the_first_of_several_mistakes() -> None:
    assert "data" in str(refused("[data]\nfoo = 1\n[search]\nbar = 1"))


@pytest.mark.parametrize(
    ("change", "section", "name", "value"),
    [
        ("training.max_tokens=2048", "training", "max_tokens", 2048),
        ("training.max_tokens = 2_048 ", "training", "max_tokens", 2048),
        ("training.epochs=1.5", "training", "epochs", 1.5),
        ("tokenizer.kind=unigram", "tokenizer", "kind", "unigram"),
        ('tokenizer.kind="unigram"', "tokenizer", "kind", "unigram"),
        ("tokenizer.joint=false", "tokenizer", "joint", False),
        ("data.source_language=no", "data", "source_language", "no"),
        ("data.train=a.tsv", "data", "train", ("a.tsv",)),
        ("data.train=hf:org/name?x=y", "data", "train", ("hf:org/name?x=y",)),
        ('data.test=["a.tsv", "b.tsv"]', "data", "test", ("a.tsv", "b.tsv")),
        ("data.train=[]", "data", "train", ()),
        ("search.length_penalty=0", "search", "length_penalty", 0.0),
    ],
)
def test_recipe_changes_are_toml_or_bare_words(
    change: str, section: str, name: str, value: object
) -> None:
    found = getattr(getattr(changed(change), section), name)
    assert found == value
    assert type(found) is type(value)


def test_recipe_changes_reach_nested_sections_and_the_top() -> None:
    recipe = changed("training.optimizer.betas=[0.8, 0.95]", "title=two words", "title=last wins")
    assert recipe.training.optimizer.betas == (0.8, 0.95)
    assert recipe.title == "last wins"
    assert changed("title=").title == ""


def test_recipe_changes_come_after_the_text() -> None:
    text = "[training]\nmax_tokens = 5\nseed = 7"
    recipe = Recipe.parse(text, changes=["training.max_tokens=6"])
    assert (recipe.training.max_tokens, recipe.training.seed) == (6, 7)


def test_recipe_changes_the_default_model_without_naming_its_kind() -> None:
    assert changed("model.width=64").model == TransformerSection(kind="transformer", width=64)
    assert changed("model.kind=transformer").model == Recipe().model


def test_recipe_change_of_kind_forgets_the_other_kinds_keys() -> None:
    text = "[model]\nkind = 'transformer'\nheads = 8\nwidth = 64"
    recipe = Recipe.parse(text, changes=["model.kind=recurrent", "model.cell=gru"])
    assert recipe.model == RecurrentSection(kind="recurrent", cell="gru")
    assert changed("model.kind=recurrent").model == RecurrentSection(kind="recurrent")
    turned = Recipe.parse(text, changes=["model.cell=gru", "model.kind=recurrent"])
    assert turned.model == recipe.model, "in whatever order they are said"
    same = Recipe.parse(text, changes=["model.kind=transformer"])
    assert same.model == TransformerSection(kind="transformer", heads=8, width=64)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[training.optimizer]\nbetas = [0.9, 1.0]", "training.optimizer.betas"),
    ],
)
def test_recipe_value_that_would_fail_late_or_in_silence_is_refused(text: str, words: str) -> None:
    assert words in str(refused(text))


def test_recipe_changed_makes_a_new_one() -> None:
    recipe = Recipe.parse("[model]\nkind = 'transformer'\nwidth = 64\n[search]\nbeam = 3")
    other = recipe.changed(["model.width=128", "data.train=a.tsv"])
    assert recipe.model.width == 64
    assert other.model.width == 128
    assert other.data.train == ("a.tsv",)
    assert other.search.beam == 3
    assert recipe.changed([]) == recipe
    with pytest.raises(RecipeError, match=r"--set: unknown key search\.bean"):
        recipe.changed(["search.bean=3"])


@pytest.mark.parametrize("change", ["", "nothing", "model.width", "=3", "a..b=3", ".a=3", " =1"])
def test_recipe_changes_need_a_key_and_a_value(change: str) -> None:
    error = refused("", [change])
    assert str(error) == f"--set {change}: not of the form section.key=value"
    assert error.hint == "for example --set training.max_tokens=2048"


def test_recipe_changes_do_not_look_into_values() -> None:
    error = refused("title = 'x'", ["title.short=y"])
    assert str(error) == "--set title.short=y: title is a value, not a section"
    assert error.hint == "--set title=y"


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
RECIPES = st.builds(
    Recipe,
    title=ANY_TEXT,
    data=st.builds(
        DataSection,
        train=st.lists(ANY_TEXT, max_size=3).map(tuple),
        valid=st.just(()),
        test=st.just(()),
        held_out=st.integers(1, 2**40),
    ),
    model=st.one_of(
        st.builds(
            RecurrentSection,
            kind=st.just("recurrent"),
            cell=st.sampled_from(["rnn", "gru", "lstm"]),
            dropout=st.floats(0, 1, exclude_max=True),
        ),
        st.builds(
            TransformerSection,
            kind=st.just("transformer"),
            width=st.just(12),
            heads=st.sampled_from([1, 2, 3, 4, 6, 12]),
            positions=st.booleans(),
        ),
    ),
)


@settings(max_examples=60, deadline=None)
@given(RECIPES, st.floats(min_value=0, exclude_min=True, allow_infinity=False))
def test_recipe_written_and_read_is_the_same(recipe: Recipe, rate: float) -> None:
    optimizer = OptimizerSection(rate=rate)
    training = recipe.training.model_copy(update={"optimizer": optimizer})
    recipe = recipe.model_copy(update={"training": training})
    text = recipe.to_toml()
    assert Recipe.parse(text) == recipe
    assert Recipe.parse(text).to_toml() == text


def test_recipe_is_written_with_every_default(tmp_path: Path) -> None:
    for recipe in (Recipe(), changed("model.kind=recurrent")):
        table = tomllib.loads(recipe.to_toml())
        for knob in knobs():
            if knob.kind in ("", recipe.model.kind):
                here = table
                for part in knob.key.split("."):
                    here = here[part]
        path = tmp_path / "recipe.toml"
        path.write_text(recipe.to_toml(), encoding="utf-8")
        assert Recipe.load(path) == recipe


def test_recipe_is_frozen() -> None:
    recipe = Recipe()
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        recipe.title = "another"  # type: ignore[misc]
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        recipe.training.optimizer.rate = 1.0  # type: ignore[misc]
    assert hash(recipe) == hash(Recipe())


def sections(section: type[Section] = Section) -> set[type[Section]]:
    return {part for child in section.__subclasses__() for part in {child, *sections(child)}}


def test_sections_are_frozen_closed_and_documented() -> None:
    assert Recipe in sections()
    for section in sections():
        assert section.model_config.get("frozen"), section
        assert section.model_config.get("extra") == "forbid", section
        assert section.__doc__, section


def test_knobs_are_described() -> None:
    for knob in knobs():
        assert len(knob.description) > 5, knob.key
        assert not knob.description.endswith("."), knob.key
        assert knob.type, knob.key
        assert knob.default, knob.key


def test_knobs_list_both_kinds_and_each_key_once() -> None:
    listed = [(knob.kind, knob.key) for knob in knobs()]
    assert len(set(listed)) == len(listed)
    assert {kind for kind, _ in listed} == {"", "recurrent", "transformer"}
    for kind, section in (("recurrent", RecurrentSection), ("transformer", TransformerSection)):
        assert {key for k, key in listed if k == kind} == {
            f"model.{name}" for name in section.model_fields
        }
    assert all(kind == "" for kind, key in listed if not key.startswith("model."))
    assert ("", "training.optimizer.rate") in listed
    assert ("", "training.optimizer") not in listed, "a section is no key"


def test_knobs_say_type_bounds_and_default() -> None:
    by_key = {(knob.kind, knob.key): knob for knob in knobs()}
    tokens = by_key["", "training.max_tokens"]
    assert (tokens.type, tokens.default) == ("int, >= 1", "4096")
    assert by_key["", "training.label_smoothing"].type == "float, >= 0, < 1"
    assert by_key["transformer", "model.norm"].type == '"pre" | "post"'
    assert by_key["recurrent", "model.kind"].default == "required"


def test_nearest_key_prefers_the_same_section() -> None:
    assert nearest_key("search.beems") == "search.beam"
    assert nearest_key("validation.beems") == "validation.beam"
    assert nearest_key("training.max_tokens") == "training.max_tokens"


@pytest.mark.parametrize(
    "text", ["=", "a = 1\na = 2", "[model", "title = 'a\0'", "<xml/>", '{"title": "json"}', "\x00"]
)
def test_recipe_of_other_text_is_not_toml(text: str) -> None:
    assert str(refused(text)).startswith("x.toml: not valid TOML: ")


def test_recipe_nested_without_end_is_refused() -> None:
    assert "nested too deeply" in str(refused("title = " + "[" * 5000))
    assert changed("title=" + "[" * 5000).title == "[" * 5000, "a bare word"


def test_recipe_load_names_the_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "no.toml"
    with pytest.raises(RecipeError) as caught:
        Recipe.load(path)
    assert str(caught.value) == f"{path}: no such recipe"
    assert caught.value.hint == "see: mtkit recipe list"


@pytest.mark.parametrize(
    "content", ["title = 'é'".encode("latin-1"), "title = 'x'".encode("utf-16")]
)
def test_recipe_load_refuses_what_is_not_utf8(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match="cannot be read"):
        Recipe.load(path)


def test_recipe_load_refuses_a_folder(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        Recipe.load(tmp_path)


def test_recipe_load_reads_what_an_editor_of_windows_wrote(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xef\xbb\xbftitle = 'a'\r\n[search]\r\nbeam = 3\r\n")
    recipe = Recipe.load(path, ["search.beam=4"])
    assert (recipe.title, recipe.search.beam) == ("a", 4)


def test_recipe_load_names_the_file_in_errors(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("[search]\nbean = 3")
    with pytest.raises(RecipeError, match=r"x\.toml: unknown key search\.bean"):
        Recipe.load(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("training.max_tokens=true", "training: max_tokens = true is no number"),
        ("training.optimizer.rate=false", "training.optimizer: rate = false is no number"),
        ("training.optimizer.rate=inf", "training.optimizer.rate = inf: "),
        ("training.minutes=nan", "training.minutes = nan: "),
    ],
)
def test_what_is_no_number_is_refused_as_one(change: str, said: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(said)):
        Recipe().changed([change])
    assert Recipe().changed(["data.streaming=true"]).data.streaming
