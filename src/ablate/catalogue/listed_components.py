"""The modules and losses that there are, as their files describe them: no torch, and no file of theirs is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ablate.errors import ConfigError, nearest
from ablate.settings.about import FAMILIES, KINDS, LOSS_FAMILIES, About, selected
from ablate.settings.graft import GraftSpec, module_names
from ablate.settings.losses import about_loss, loss_names
from ablate.settings.option_files import module_file
from ablate.sources.python_imports import find_module

ALL_KINDS = (*KINDS, "box", "cls", "assigner")
ALL_FAMILIES = (*FAMILIES, *LOSS_FAMILIES.values())


@dataclass(frozen=True)
class ListedComponent:
    """A module or loss of the catalogue.

    Attributes:
        name: As it is written on the command line.
        kinds: What it can be: kinds of insertion points, or parts of the loss.
        family: As its file says; empty where it does not.
        paper: Where it is described; empty where its file does not say.
        point: Its default insertion point; for a loss the part that it is by default.
        graft: The module at its default insertion point; None for a loss, and where the file is not valid.
        problem: Why it cannot be built; empty where nothing is known against it.
    """

    name: str
    kinds: tuple[str, ...]
    family: str
    paper: str
    point: str
    graft: GraftSpec | None = None
    problem: str = ""

    @property
    def text(self) -> str:
        """Return it as a component, such as ``adown@down`` or ``wiou@box``; no two have the same."""
        return f"{self.name}@{self.point}"

    @property
    def is_loss(self) -> bool:
        """Whether it is a loss, not a module."""
        return self.point in LOSS_FAMILIES


@dataclass(frozen=True)
class Selection:
    """Which components are meant.

    Attributes:
        patterns: Names, in which `*` stands for anything; empty: all.
        families, kinds, points: Of which one must be a component's; empty: any.
    """

    patterns: Sequence[str] = ()
    families: Sequence[str] = ()
    kinds: Sequence[str] = ()
    points: Sequence[str] = ()

    def takes(self, component: ListedComponent) -> bool:
        """Tell whether a component is meant."""
        limits: list[tuple[Sequence[str], Sequence[str]]] = [
            (self.families, [component.family]), (self.kinds, component.kinds), (self.points, [component.point]),
        ]  # fmt: skip
        if not all(set(values) & set(levels) for values, levels in limits if values):
            return False
        return not self.patterns or any(fnmatchcase(component.name, pattern) for pattern in self.patterns)


def read_selection(words: Sequence[str]) -> Selection:
    """Return what the words of the command mean: names, and filters such as ``family=attention,mixer``.

    Raises:
        ConfigError: There is no such filter, family or kind.
    """
    filters: dict[str, list[str]] = {"family": [], "kind": [], "point": []}
    valid: Mapping[str, Sequence[str]] = {"family": ALL_FAMILIES, "kind": ALL_KINDS}
    patterns = [word for word in words if "=" not in word]
    for word in (word for word in words if "=" in word):
        key = word.partition("=")[0]
        if key not in filters:
            raise ConfigError(f"catalogue: {word}: no such filter. {nearest(key, filters)}valid: {', '.join(filters)}")
        filters[key] += selected(word, valid.get(key, ()), "catalogue: ")
    return Selection(patterns, filters["family"], filters["kind"], filters["point"])


def listed_components(selection: Selection) -> list[ListedComponent]:
    """Return the modules and losses that a selection means, modules first, in the order of their names.

    Raises:
        ConfigError: A name matches nothing.
    """
    everything = [*map(_module, module_names()), *_losses()]
    names = [component.name for component in everything]
    for pattern in selection.patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigError(f"catalogue: '{pattern}': no module or loss. {nearest(pattern, names)}".rstrip())
    return [component for component in everything if selection.takes(component)]


def _module(name: str) -> ListedComponent:
    """Return a module as its file describes it; its class is only looked for, for reading it takes long."""
    about, point, graft, problem = About(), "", None, ""
    try:
        content = module_file(name)
        about = About.from_plain(content.get("about"), f"conf/module/{name}.yaml: about")
        point = str(content.get("insertion") or "")
        package = str(content["_target_"]).partition(".")[0]
        if find_module(package) is None:
            problem = f"{package} is not installed"
        else:
            graft = GraftSpec.from_text(name if point else f"{name}@head")
    except ConfigError as error:
        problem = str(error)
    return ListedComponent(name, about.kinds, about.family, about.paper, point, graft, problem)


def _losses() -> list[ListedComponent]:
    components: dict[str, ListedComponent] = {}
    for part in LOSS_FAMILIES:
        for name in loss_names(part):
            about, problem = About(kinds=(part,)), ""
            try:
                about = about_loss(name, part)
            except ConfigError as error:
                problem = str(error)
            row = ListedComponent(name, about.kinds, about.family, about.paper, part, None, problem)
            components[f"{name}@{part}"] = row
    return list(components.values())
