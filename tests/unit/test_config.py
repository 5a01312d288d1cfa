"""TOML, environment and flags: what wins, what is refused, and in which words."""

import os
import re
from pathlib import Path

import pytest

from autointerp.config import RunConfig, make_config, parse_dictionary
from autointerp.errors import UsageError

FLAGS: dict[str, object] = {"model": "m", "corpus": "c.txt", "dictionary": [{"path": "some/Dict"}], "out": "runs/x"}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("AUTOINTERP_"):
            monkeypatch.delenv(name)


def write(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(toml: Path | None = None, **flags: object) -> str:
    with pytest.raises(UsageError) as caught:
        make_config(toml, {**FLAGS, **flags})
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_defaults_are_those_of_the_help() -> None:
    """A default that differs from the one in the help makes two runs incomparable without a word."""
    config = make_config(None, FLAGS)
    assert (config.features, config.protocol, config.explainer, config.simulator, config.seed) == (
        "sample:500", "graded", None, None, 0,
    )  # fmt: skip
    assert config.dictionary[0].role == "trained"


def test_flags_win_over_environment_over_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearest word is the one that is meant."""
    toml = write(
        tmp_path, "seed = 1\nfeatures = 'all'\nprotocol = 'simulate'\n[harvest]\nbatch_size = 4\ncontext = 64\n"
    )
    monkeypatch.setenv("AUTOINTERP_SEED", "2")
    monkeypatch.setenv("AUTOINTERP_FEATURES", "0-3")
    monkeypatch.setenv("AUTOINTERP_HARVEST__BATCH_SIZE", "8")
    config = make_config(toml, {**FLAGS, "seed": 3, "features": None})
    assert (config.seed, config.features) == (3, "0-3")
    assert (config.harvest.batch_size, config.harvest.context) == (8, 64)


@pytest.mark.parametrize(
    ("toml", "wrong", "near"),
    [
        ("fetures = 'all'", "fetures", "features"),
        ("[harvest]\nbatchsize = 3", "harvest.batchsize", "batch_size"),
        ("[[dictionary]]\npath = 'a'\nhook_pont = 'h'", "dictionary.0.hook_pont", "hook_point"),
    ],
)
def test_an_unknown_key_is_refused_with_the_near_one(tmp_path: Path, toml: str, wrong: str, near: str) -> None:
    """A misspelt key that is ignored runs another experiment than the one that was written down."""
    flags = {**FLAGS}
    if "dictionary" in toml:
        del flags["dictionary"]
    with pytest.raises(UsageError) as caught:
        make_config(write(tmp_path, toml), flags)
    assert repr(wrong) in str(caught.value)
    assert near in str(caught.value).partition("one of:")[2]
    assert "run.toml" in str(caught.value)


def test_an_unknown_variable_names_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """'The command line: unknown key' sends a user to look where nothing is wrong."""
    monkeypatch.setenv("AUTOINTERP_SEEED", "2")
    text = refusal()
    assert "'seeed'" in text
    assert "seed" in text
    assert "AUTOINTERP_" in text


def test_a_section_as_a_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It met the section's own keys and ended in a traceback."""
    monkeypatch.setenv("AUTOINTERP_HARVEST", "fast")
    monkeypatch.setenv("AUTOINTERP_HARVEST__BATCH_SIZE", "8")
    assert "AUTOINTERP_HARVEST" in refusal()


@pytest.mark.parametrize("text", ["seed = ", "[harvest", "seed = 1\nseed = 2", "\x00"])
def test_bad_toml_is_one_sentence_with_its_file(tmp_path: Path, text: str) -> None:
    """A parser's traceback does not say which file."""
    assert "is not valid TOML" in refusal(write(tmp_path, text))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, a folder, not UTF-8: each says so."""
    assert "no configuration file" in refusal(tmp_path / "none.toml")
    assert "cannot read" in refusal(tmp_path)
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"model = '\xe9'")
    assert "cannot read" in refusal(latin)


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """A configuration that works from one folder only cannot be given to anyone."""
    (tmp_path / "weights" / "sae").mkdir(parents=True)
    (tmp_path / "text.txt").write_text("x", encoding="utf-8")
    toml = write(tmp_path, "model = 'weights'\ncorpus = 'text.txt'\n[[dictionary]]\npath = 'weights/sae'\n"
                           "[[dictionary]]\npath = 'elsewhere/sae'\n")  # fmt: skip
    config = make_config(toml, {"out": "o"})
    assert config.model == str(tmp_path / "weights")
    assert config.corpus == str(tmp_path / "text.txt")
    assert [d.path for d in config.dictionary] == [str(tmp_path / "weights/sae"), "elsewhere/sae"]


@pytest.mark.parametrize(
    ("given", "meant"), [("texts:dev", "texts:dev"), ("a:b", "a:b"), ("a:b:dev", "a:b:dev"), ("owner/name:dev", None)]
)
def test_a_data_set_beside_the_file(tmp_path: Path, given: str, meant: str | None) -> None:
    """A folder's name may hold a colon; what is no folder there is a name on the hub."""
    for name in ("texts", "a:b"):
        (tmp_path / name).mkdir()
    config = make_config(write(tmp_path, f"corpus = 'hf:{given}'"), {k: v for k, v in FLAGS.items() if k != "corpus"})
    assert config.corpus == ("hf:" + (f"{tmp_path}/{meant}" if meant else given))


def test_ids_come_from_the_last_part_and_never_twice() -> None:
    """Two dictionaries with one id would write into one folder."""
    paths = [
        "a/Top K!",
        "b/Top K!",
        "neurons@blocks.0.mlp.hook_post",
        "neurons-both@blocks.1.mlp.hook_post",
        "/",
        "_x",
        "top-k--2",
    ]
    config = make_config(None, {**FLAGS, "dictionary": [{"path": p} for p in paths]})
    assert [d.id for d in config.dictionary] == [
        "top-k-", "top-k--2", "neurons", "neurons-2", "dictionary", "x", "top-k--2-2",
    ]  # fmt: skip
    assert [d.role for d in config.dictionary][2:4] == ["basis", "basis"]


def test_an_id_that_is_given_is_kept_and_not_taken_by_another() -> None:
    """A derived id must make way for one that was asked for, whatever the order."""
    config = make_config(None, {**FLAGS, "dictionary": [{"path": "a/sae"}, {"id": "sae", "path": "b"}]})
    assert [d.id for d in config.dictionary] == ["sae-2", "sae"]
    assert "called sae" in refusal(dictionary=[{"id": "sae", "path": "a"}, {"id": "sae", "path": "b"}])


@pytest.mark.parametrize("bad", ["", "Upper", "-x", "a b", "x" * 65, "ü", "a\n"])
def test_bad_ids_are_refused(bad: str) -> None:
    """An id is a folder's name and part of a reference RUN:ID."""
    text = refusal(dictionary=[{"id": bad, "path": "a"}])
    assert f"'dictionary.0.id': {bad!r} can be no dictionary's id: an id has at most 64 characters" in text


def test_spec_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[ID=]SPEC; a path that itself holds '=' and exists is a path."""
    monkeypatch.chdir(tmp_path)
    assert parse_dictionary("topk=some/path") == {"id": "topk", "path": "some/path"}
    assert parse_dictionary("some/path") == {"path": "some/path"}
    assert parse_dictionary("neurons@blocks.0.mlp.hook_post") == {"path": "neurons@blocks.0.mlp.hook_post"}
    assert parse_dictionary("a=b=c") == {"id": "a", "path": "b=c"}
    for path in ("hf://org/name/k=32", "org/name/k=32", "release:k=32"):
        assert parse_dictionary(path) == {"path": path}
    (tmp_path / "k=32").mkdir()
    assert parse_dictionary("k=32") == {"path": "k=32"}


@pytest.mark.parametrize("name", ["SAE", "a b", "Ünï", "a/b", "", "x" * 65, "x" * 300])
def test_what_can_be_no_id_on_the_command_line(name: str) -> None:
    """It was taken for a path, and 'does not exist' says nothing of ids."""
    with pytest.raises(
        UsageError, match=rf"'{name}' can be no dictionary's id: an id has at most 64 characters, of a-z"
    ):
        parse_dictionary(f"{name}=neurons@blocks.0.mlp.hook_post")


@pytest.mark.parametrize("good", ["all", "0", "0-999,7", "3,1,2", "@list.txt", "sample:1", "sample:500"])
def test_features_grammar(good: str) -> None:
    """The four forms of the help."""
    assert make_config(None, {**FLAGS, "features": good}).features == good


@pytest.mark.parametrize(
    "bad", ["", "some", "1-", "-1", "1,,2", "sample:0", "sample:-5", "sample:", "@", "1 2", "٣", "0-9\n"]
)
def test_features_outside_the_grammar(bad: str) -> None:
    """A misread selection explains the wrong features, and is paid for."""
    assert "features" in refusal(features=bad)


@pytest.mark.parametrize(
    ("section", "word"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"shard_tokens": 5}, "shard_tokens"),
        ({"context": 2}, "context"),
        ({"device": "gpu"}, "device"),
        ({"dtype": "int8"}, "dtype"),
        ({"threads": -1}, "threads"),
    ],
)
def test_harvest_settings_out_of_range(section: dict[str, object], word: str) -> None:
    """What torch would refuse an hour later is refused at once, by name."""
    assert f"harvest.{word}" in refusal(harvest=section)


def test_a_missing_key_says_how_to_give_it() -> None:
    """'Field required' does not say which flag."""
    with pytest.raises(UsageError, match="model, dictionary, corpus missing; give --model and --dictionary"):
        make_config(None, {"out": "x"})


def test_only_a_control_is_redrawn() -> None:
    """A trained dictionary on a redrawn model would be a mistake without a symptom."""
    assert "control" in refusal(dictionary=[{"path": "a", "rerandomise_seed": 1}])
    made = make_config(None, {**FLAGS, "dictionary": [{"path": "a", "role": "control", "rerandomise_seed": 1}]})
    assert made.dictionary[0].rerandomise_seed == 1


def test_random_directions_stand_beside_a_dictionary_of_the_run() -> None:
    """A misspelt ID, or a control of a control, would have been found after the corpus was tokenised."""
    own = {"id": "own", "path": "weights"}
    control = make_config(None, {**FLAGS, "dictionary": [own, {"path": "random@own"}]}).dictionary[1]
    assert (control.id, control.role, control.like) == ("random-own", "control", "own")
    assert "random@own" in refusal(dictionary=[own, {"path": "random@onw"}])
    assert "can be one of: none" in refusal(dictionary=[{"id": "r", "path": "random@r"}])
    twice = [own, {"id": "r", "path": "random@own"}, {"path": "random@r"}]
    assert "random@r names no dictionary of this run that has weights" in refusal(dictionary=twice)


def test_random_directions_are_on_the_model_of_their_dictionary() -> None:
    """Densities matched on one model and harvested on another match nothing."""
    redrawn = {"id": "redrawn", "path": "weights", "role": "control", "rerandomise_seed": 4}
    assert "give r rerandomise_seed = 4" in refusal(dictionary=[redrawn, {"id": "r", "path": "random@redrawn"}])
    both = [redrawn, {"id": "r", "path": "random@redrawn", "rerandomise_seed": 4}]
    assert make_config(None, {**FLAGS, "dictionary": both}).dictionary[1].like == "redrawn"


@pytest.mark.parametrize("key", ["model", "corpus", "out"])
def test_a_path_that_is_not_utf8_is_refused(key: str) -> None:
    """The run's folder keeps the configuration as UTF-8."""
    assert "'\\udcff' is not UTF-8" in refusal(None, **{key: "\udcff"})
    assert "'\\udcff' is not UTF-8" in refusal(dictionary=[{"id": "a", "path": "\udcff"}])


@pytest.mark.parametrize("key", ["model", "corpus", "out"])
def test_a_name_too_long_for_a_file_is_refused(key: str) -> None:
    """The first look whether there is such a file ended in a traceback."""
    said = r"x{40}… \(300 characters\) is too long a name for a file; shorten it"
    for changes in ({key: "x" * 300}, {"dictionary": [{"path": "x" * 300}]}):
        assert re.search(said, refusal(**changes))


def test_a_configuration_is_frozen() -> None:
    """What was checked must be what is run."""
    config = make_config(None, FLAGS)
    assert isinstance(config, RunConfig)
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 5  # type: ignore[misc]
