"""Every module of the catalogue does what its kind must do; a new one is tested by existing.

The fast suite (`make test`) runs a few checks on each module of ours, and `make catalogue-test` all checks on every
module, those of libraries too, as each of its kinds.
"""

from __future__ import annotations

import re
from importlib.util import find_spec

import pytest
from tests.conformance.test_modules import FIRST, ROOT

from ablate.settings.option_files import about_module
from ablate.settings.points import point_of
from ablate.settings.schema import option_file, options
from ablate.verifying.conformance import CHECKS, examine, subject_of
from ablate.verifying.registry import registry
from ablate.verifying.subject import Subject

NAMES = [name for name in options("module") if name not in ("none", *FIRST)]
MADE_OF_THE_LAYER = ("stock", "reset")  # controls, which are tested in networks


OURS = [name for name in NAMES if "/" not in name]
THEIRS = [pytest.param(name, marks=pytest.mark.slow) for name in NAMES if "/" in name]  # of libraries, in subfolders


@pytest.fixture(params=[*OURS, *THEIRS])
def name(request: pytest.FixtureRequest) -> str:
    """Each module of the catalogue whose package is installed."""
    package = str(option_file("module", request.param)["_target_"]).split(".")[0]
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    return str(request.param)


@pytest.mark.parametrize("name", NAMES)
def test_its_file_says_what_it_is_and_fits_its_default_point(name: str) -> None:
    content, about = option_file("module", name), about_module(name)
    point = point_of(str(content["insertion"]))

    assert about.family
    assert about.paper or about.family == "control" or not str(content["_target_"]).startswith("ablate.")
    assert point is not None
    assert point.takes(about.kinds)
    text = (ROOT / f"conf/module/{name}.yaml").read_text(encoding="utf-8")
    options_of_it = [key for key in content if key not in ("name", "_target_", "insertion", "about")]
    for key in options_of_it:
        assert re.search(rf"^{key}:.*#|^\s*#.*\n{key}:", text, re.MULTILINE), f"{key} has no comment"


def test_it_keeps_its_contract_on_an_odd_map_and_learns(name: str) -> None:
    (spec, *_) = registry([name]).values()
    if name in MADE_OF_THE_LAYER:
        return
    kind = (spec.kinds or ("insert",))[0]
    if Subject(spec, kind=kind).is_head:
        return
    subject = subject_of(spec, kind).subject
    module = subject.build().train()
    maps = [each.requires_grad_() for each in subject.maps(2, 5, 7)]
    outputs = subject.run(module, [each.clone() for each in maps])
    subject.check(outputs, maps)
    sum(each.square().sum() for each in outputs).backward()  # type: ignore[union-attr]
    assert all(parameter.grad is not None for parameter in module.parameters())
    assert any(each.grad is not None and each.grad.abs().sum() > 0 for each in maps)
    module.eval()
    alone = subject.run(module, [each[:1].detach() for each in maps])
    together = subject.run(module, [each.detach() for each in maps])
    for one, both in zip(alone, together, strict=True):
        assert (one - both[:1]).abs().max() <= 1e-4 * both.abs().max() + 1e-6


@pytest.mark.slow
def test_it_passes_every_check_as_each_of_its_kinds(name: str) -> None:
    for title, spec in registry([name]).items():
        examination = examine(spec)
        assert examination.errors == (), title
        assert examination.checks >= len(CHECKS) or name in MADE_OF_THE_LAYER or "head" in (spec.kinds or ())
