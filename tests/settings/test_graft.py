"""A graft means the same as a text, in a configuration and in a network's yaml."""

from __future__ import annotations

import pytest

from ablate.errors import ConfigError
from ablate.modules.convblock import ConvBlock
from ablate.settings.graft import (
    SIZE_MATCHED,
    GraftSpec,
    InsertionSpec,
    ModuleSpec,
    read_grafts,
    targets_of,
    write_grafts,
)
from ablate.settings.option_files import RESERVED
from ablate.settings.option_files import module_file as whole_file
from ablate.settings.schema import option_file
from ablate.storage.plain_values import Plain

TEXTS = (
    "hmha@c3k2",
    "hmha[rerank=batch]@c3k2[rezero]",
    "sta@layer4+6",
    "acmix@head",
    "convblock[like=hmha]@c3k2",
    "convblock[width=8]@head",
)


def module_file(name: str) -> Plain:
    """Return the file of a module without what it says about it."""
    content = whole_file(name)
    del content["about"]
    return content


@pytest.mark.parametrize("text", TEXTS)
def test_every_form_of_a_graft_is_read_back(text: str) -> None:
    graft = GraftSpec.from_text(text)

    assert graft.text == text
    assert GraftSpec.from_text(graft.text) == graft
    assert GraftSpec.from_plain(graft.to_plain()) == graft
    (again,) = read_grafts(write_grafts([graft]))
    assert again.module.arguments == graft.module.arguments
    assert (again.module.target, again.insertion) == (graft.module.target, graft.insertion)
    assert again.key == graft.key


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hmha", InsertionSpec("c3k2")),
        ("hmha@head", InsertionSpec("head")),
        ("hmha@head[rezero]", InsertionSpec("head", wiring="rezero")),
        ("hmha@4+6+4", InsertionSpec("layer4+6", at=(4, 6))),
        ("hmha@layer4+6", InsertionSpec("layer4+6", at=(4, 6))),
        (" hmha @ customary ", InsertionSpec("c3k2")),
    ],
)
def test_the_place_may_be_a_name_layers_or_the_default(text: str, expected: InsertionSpec) -> None:
    graft = GraftSpec.from_text(text)
    assert graft.insertion == expected
    assert graft.module.to_plain() == module_file("hmha")


def test_options_replace_those_of_the_module_s_file() -> None:
    module = GraftSpec.from_text("hmha[rerank=batch,bias=true]@head").module
    assert module.to_plain() == {**module_file("hmha"), "rerank": "batch", "bias": True}


def test_arguments_are_those_of_the_class_and_shared_with_nobody() -> None:
    file = option_file("module", "hmha")
    module = GraftSpec.from_text("hmha").module

    assert module.arguments == {key: file[key] for key in file if key not in RESERVED}
    module.arguments["rerank"] = "changed"
    assert GraftSpec.from_text("hmha").module.arguments["rerank"] == "sample"


def test_a_block_as_large_as_a_module_takes_the_module_s_options() -> None:
    matched = GraftSpec.from_text("convblock[like=hmha]").module
    plain = {**option_file("module", "convblock"), "like": {**option_file("module", "hmha"), "rerank": "batch"}}
    changed = ModuleSpec.from_plain(plain)

    assert matched.targets == [SIZE_MATCHED, "ablate.modules.hmha.HMHA"]
    assert changed.like is not None
    assert changed.like.arguments["rerank"] == "batch"
    assert changed.text == "convblock[like=hmha[rerank=batch]]"
    assert ConvBlock(32, **matched.arguments).describe()["params"] > 0


def test_an_option_that_is_called_like_means_nothing_to_another_module() -> None:
    module = ModuleSpec.from_plain({"_target_": "mine.Block", "like": "hmha"})
    assert module.like is None
    assert module.arguments == {"like": "hmha"}


def test_several_grafts_stand_in_a_list_and_one_keeps_the_form_of_old_checkpoints() -> None:
    one, two = GraftSpec.from_text("acmix"), GraftSpec.from_text("hmha")

    assert set(write_grafts([one])) == {"module", "insertion"}
    assert set(write_grafts([one])["module"]).isdisjoint({"name", "insertion"})
    assert write_grafts([two, one])["grafts"][1] == write_grafts([one])
    assert targets_of([one, two, one]) == ["ablate.modules.acmix.ACmix", "ablate.modules.hmha.HMHA"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "hmah@c3k2",
            "'hmah@c3k2': no module 'hmah'. did you mean 'hmha'? valid: acmix, aconv",
        ),
        ("none", "no module 'none'"),
        ("hmha[rerank]", "'rerank' is no option=value"),
        ("hmha[_target_=os.system]", "is no option=value"),
        ("hmha@c3k2@head", "is no graft; the form is name[option=value,...]@place[wiring]"),
        ("hmha[rerank=batch", "is no graft"),
        ("", "is no graft"),
    ],
)
def test_what_is_no_graft_is_refused_with_the_form(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        GraftSpec.from_text(text, "components")
    assert str(refused.value).startswith("components: ")
    assert words in str(refused.value)
