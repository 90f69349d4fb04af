"""A graft is written in one short way, and what is written means what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from ablate.cli.hydra_bridge import quote_list, quote_path
from ablate.settings.graft import is_graft, plain_value, quote, split


def test_a_module_s_name_as_a_key_is_an_override_and_no_graft() -> None:
    assert [is_graft(text) for text in ("hmha", "hmha@c3k2", "hmha[bias=true]")] == [True] * 3
    assert [is_graft(text) for text in ("musgd", "hmha=3", "train.mosaic=1.0", "none", "")] == [False] * 5


@pytest.mark.parametrize(
    "argument",
    [
        "grafts=[hmha[rerank=batch,bias=true]@c3k2,acmix]",
        "components=[hmha@c3k2,train.mosaic=1.0,musgd]",
        "grafts=[hmha@c3k2],[acmix@head,sta[refine=false]]",
        "grafts=[]",
    ],
)
def test_lists_of_grafts_are_quoted_so_that_hydra_takes_them(argument: str) -> None:
    parser = OverridesParser.create()
    override = parser.parse_override(quote_list(argument))
    levels = list(override.sweep_string_iterator()) if override.is_sweep_override() else [override.value()]
    lists = [parser.parse_override(f"x={level}").value() if isinstance(level, str) else level for level in levels]
    assert argument == override.key_or_group + "=" + ",".join("[" + ",".join(words) + "]" for words in lists)


@pytest.mark.parametrize("argument", ["module=hmha,acmix", "grafts=['hmha@c3k2']", "seed=range(0,3)", "grafts", "-m"])
def test_other_arguments_and_quoted_ones_stay_as_they_are(argument: str) -> None:
    assert quote_list(argument) == argument


def test_quoted_words_come_back_through_hydra() -> None:
    words = ["hmha[rerank=batch]@c3k2", "it's", "a b", "train.mosaic=1.0"]
    parsed = OverridesParser.create().parse_override(f"grafts={quote(words)}").value()
    assert parsed == words


def test_commas_inside_of_brackets_do_not_split() -> None:
    assert split("hmha[a=1,b=2]@c3k2, acmix") == ["hmha[a=1,b=2]@c3k2", "acmix"]


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("False", False), ("null", None), ("3", 3), ("1e-3", 0.001), ("none", "none"), ("yes", "yes")],
)
def test_values_mean_what_they_mean_on_hydra_s_command_line(text: str, value: object) -> None:
    assert plain_value(text) == value
    assert type(plain_value(text)) is type(value)
    assert OverridesParser.create().parse_override(f"x={text}").value() == value


NAMES = (
    "my data (v2).yaml",
    "a,b=c.yaml",
    "set[bold].yaml",
    "pink & green.yaml",
    "epoch=9-step=8.yaml",
    "${x}.yaml",
    "ünï#50%.yaml",
    "what?x=1.yaml",
    "it's {mine}.yaml",
    'a "b".yaml',
    "back\\slash.yaml",
    "back\\'quote.yaml",
    "ends in \\",
    "~x:@!;|<>*^`.yaml",
    " space.yaml",
    "+1,2.yaml",
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["data.path", "root", "model.weights"])
def test_a_path_that_exists_is_read_as_it_is_written(name: str, key: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    path = str(tmp_path / name)
    override = OverridesParser.create().parse_override(quote_path(f"{key}={path}"))
    assert not override.is_sweep_override()
    content = OmegaConf.create({"path": override.value()})
    assert content.path == path
    assert OmegaConf.to_container(content, resolve=True) == {"path": path}


@pytest.mark.parametrize("mark", ["'", '"'])
def test_a_path_in_quotes_is_read_as_one_without(mark: str, tmp_path: Path) -> None:
    path = tmp_path / "a,b ${x}.yaml"
    path.touch()
    override = OverridesParser.create().parse_override(quote_path(f"data.path={mark}{path}{mark}"))
    assert OmegaConf.create({"path": override.value()}).path == str(path)


@pytest.mark.parametrize("name", [name for name in NAMES if "," not in name and "${" not in name])
def test_a_path_that_does_not_exist_yet_is_read_as_it_is_written(name: str) -> None:
    override = OverridesParser.create().parse_override(quote_path(f"root=out/x{name}"))
    assert override.value() == f"out/x{name}"


def test_paths_in_a_sweep_stay_several(tmp_path: Path) -> None:
    for name in ("a (1).yaml", "b.yaml"):
        (tmp_path / name).touch()
    paths = [f"{tmp_path}/a (1).yaml", f"{tmp_path}/b.yaml"]
    parser = OverridesParser.create()
    override = parser.parse_override(quote_path(f"data.path={','.join(paths)}"))
    assert override.is_sweep_override()
    assert [element.text for element in override.value().list] == paths
    for words in ("data.path=c.yaml,d.yaml", "data.path=choice(c.yaml,d.yaml)", "root=${oc.env:HOME}/x", "root=null"):
        assert quote_path(words) == words


def test_other_arguments_are_not_quoted_as_paths() -> None:
    assert quote_path("module=hmha(1)") == "module=hmha(1)"
