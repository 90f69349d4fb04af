"""The modules that can be checked: those of `conf/module/`, where a module is tested by existing."""

from __future__ import annotations

from collections.abc import Sequence

from ablate.errors import ConfigError, named, nearest
from ablate.settings.graft import ModuleSpec, module_names
from ablate.settings.module_checks import check_module
from ablate.settings.option_files import module_file


def registry(names: Sequence[str] = ()) -> dict[str, ModuleSpec]:
    """Return the modules of `conf/module/` (ours and the working folder's) with the options of their files.

    A module of ours with two forms is there twice: `acmix[fused=true]` and `acmix[fused=false]`.

    Args:
        names: Those that are asked for; none: all. The files of others are not read.

    Raises:
        ConfigError: There is no module of a name, or its file is not what a module needs.
    """
    valid = module_names()
    modules: dict[str, ModuleSpec] = {}
    for name in names or valid:
        if name not in valid:
            raise ConfigError(f"verify {name}: no such module. {nearest(name, valid)}valid: {named(valid)}")
        content = module_file(name)
        check_module(content, f"{name}: ")
        if "fused" in content and str(content["_target_"]).startswith("ablate.modules."):
            for form in (True, False):
                title = f"{name}[fused={str(form).lower()}]"
                modules[title] = ModuleSpec.from_plain({**content, "fused": form})
        else:
            modules[name] = ModuleSpec.from_plain(content)
    return modules
