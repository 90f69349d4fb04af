"""Every module of the registry does what every module must do; a new one is tested by existing."""

from __future__ import annotations

import pytest

from ablate.verifying.conformance import CHECKS, registry

MODULES = registry()


def test_the_registry_holds_the_four_papers() -> None:
    forms = {f"{name}[fused={form}]" for name in ("acmix", "hat", "hmha", "sta") for form in ("true", "false")}
    assert set(MODULES) == {*forms, "convblock", "identity"}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("module", MODULES)
def test_module(module: str, check: str) -> None:
    CHECKS[check](MODULES[module])
