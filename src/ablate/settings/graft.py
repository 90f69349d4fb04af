"""Grafts: which module goes where in a network. One frozen object from the command line to the checkpoint.

A graft is written in three ways, all of which are read and written here:

- on the command line: ``hmha[rerank=batch]@c3k2[rezero]``;
- in a configuration, `config.yaml` and `result.json`: ``{"module": {"name", "_target_", "insertion", "<option>": ...},
  "insertion": {"name", "at", "wiring"}}``, the first one under `module` and `insertion`, the others under `grafts`;
- in a network's yaml, and so in every checkpoint: the same without the module's name and default insertion point, as a
  single mapping for one graft and as ``{"grafts": [...]}`` for several.

What a graft does at its insertion point is the point's kind (`ablate.settings.points`): it is inserted after a host, or
it replaces a layer. ``head=dyhead`` in a configuration means ``dyhead@detect``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from ablate.errors import ConfigError, named, nearest
from ablate.settings.about import About
from ablate.settings.imported_network import NETWORK, ImportedNetwork
from ablate.settings.option_files import module_file
from ablate.settings.points import HEAD_POINT, REPLACE_LAYER, layers_of, point_of
from ablate.settings.schema import options
from ablate.sources.module_source import module_source
from ablate.storage.plain_values import Plain, plain_copy

SIZE_MATCHED = "ablate.modules.convblock.ConvBlock"  # it has as many parameters as the module in its option `like`
FORM = "name[option=value,...]@place[wiring]"
_NO_OPTIONS = ("name", "_target_", "insertion", "about")  # keys of a module's mapping that its class does not take

_GRAFT = re.compile(r"(?P<name>[^\[\]@=]+)(\[(?P<options>[^\]]*)\])?(@(?P<place>[^\[\]@=]+)(\[(?P<wiring>[^\]]*)\])?)?")


@dataclass(frozen=True)
class ModuleSpec:
    """A module's class with its options.

    Attributes:
        target: Dotted path of the class.
        options: Keyword arguments of the class, without `like` of a size-matched block.
        name: Name of its file in `conf/module/`; None where a checkpoint or a mapping of the user's has none.
        default_insertion: The insertion point that its file names; None where it names none.
        like: The module whose number of parameters a size-matched block has; None for any other module.
    """

    target: str
    options: Mapping[str, object] = field(default_factory=dict)
    name: str | None = None
    default_insertion: str | None = None
    like: ModuleSpec | None = None

    @classmethod
    def from_plain(cls, content: Plain, where: str = "module.like") -> ModuleSpec:
        """Return the module of a configuration or of a network's yaml; `where` leads the message of an error.

        Raises:
            ConfigError: `like` of a size-matched block names no module.
        """
        options = {key: plain_copy(value) for key, value in content.items() if key not in _NO_OPTIONS}
        target, like = str(content.get("_target_")), None
        if target == SIZE_MATCHED and (matched := options.pop("like", None)) is not None:
            like = GraftSpec.from_text(matched, where).module if isinstance(matched, str) else cls.from_plain(matched)
            like = replace(like, default_insertion=None)
        elif target == SIZE_MATCHED and "like" in content:
            options["like"] = None
        return cls(target, options, content.get("name"), content.get("insertion"), like)

    @property
    def title(self) -> str:
        """Return the module's name, else that of its class."""
        return self.name or self.target.rpartition(".")[2]

    @property
    def is_network(self) -> bool:
        """Whether it is no module but a whole network that was imported."""
        return self.target == NETWORK

    @property
    def kinds(self) -> tuple[str, ...] | None:
        """Return what the module can be, as its file says in `about.kind`; None where there is no file that says it."""
        content = {} if self.name is None or self.is_network else _module_file(self.name, Path.cwd())
        if content.get("_target_") != self.target or content.get("about") is None:
            return None
        return About.from_plain(content["about"], f"conf/module/{self.name}.yaml: about").kinds

    @property
    def arguments(self) -> dict[str, object]:
        """Return the keyword arguments of the class, beside the channels."""
        like = {} if self.like is None else {"like": {"_target_": self.like.target, **self.like.arguments}}
        return {**like, **plain_copy(dict(self.options))}

    @property
    def text(self) -> str:
        """Return the module in the syntax of the command line, with the options that differ from its file."""
        defaults = {} if self.is_network else _module_file(str(self.name), Path.cwd())
        changed = [
            f"{key}={self.like.text if key == 'like' and self.like else value}"
            for key, value in self.to_plain().items()
            if key in defaults and defaults[key] != value
        ]
        return f"{self.title}[{','.join(changed)}]" if changed else self.title

    @property
    def targets(self) -> list[str]:
        """Return the classes that the module is made from: its own, and the one whose size it has."""
        if self.is_network:
            return ImportedNetwork.from_options(self.options).targets
        return [self.target, *([] if self.like is None else [self.like.target])]

    def to_plain(self, *, named: bool = True) -> Plain:
        """Return the module as a configuration holds it; not `named`: as a network's yaml does."""
        names = {"name": self.name, "_target_": self.target, "insertion": self.default_insertion}
        plain = {key: value for key, value in names.items() if value is not None and (named or key == "_target_")}
        like = {} if self.like is None else {"like": self.like.to_plain()}
        return {**plain, **like, **plain_copy(dict(self.options))}


@dataclass(frozen=True)
class InsertionSpec:
    """Where a graft goes, and how its output joins the network.

    Attributes:
        name: An insertion point such as ``c3k2``; for the layers `at` ``layer4+6``, or ``replace_layer4+6``.
        at: Indices of the layers that a graft follows or replaces; None where the name says it.
        wiring: ``plain``, ``residual`` or ``rezero``.
    """

    name: str
    at: tuple[int, ...] | None = None
    wiring: str = "plain"

    @classmethod
    def from_plain(cls, content: Plain, default: str | None = None) -> InsertionSpec:
        """Return an insertion; `default` is the module's insertion point, which ``customary`` means."""
        name, wiring, layers = str(content["name"]), str(content.get("wiring", "plain")), content.get("at")
        if name == "customary" and layers is None:
            name = default or "head"
        if layers is None and (named := layers_of(name)):
            name, layers = named
        if layers is not None:
            at = tuple(dict.fromkeys(layers))
            prefix = REPLACE_LAYER if name.startswith(REPLACE_LAYER) else "layer"
            return cls(prefix + "+".join(map(str, at)), at, wiring)
        return cls(name, None, wiring)

    def to_plain(self) -> Plain:
        """Return the insertion as a configuration and a network's yaml hold it."""
        return {"name": self.name, "at": None if self.at is None else list(self.at), "wiring": self.wiring}


@dataclass(frozen=True)
class GraftSpec:
    """A module, and where in the network it goes."""

    module: ModuleSpec
    insertion: InsertionSpec

    @property
    def kind(self) -> str:
        """Return what the module is at its insertion point, of `ablate.settings.about.KINDS`."""
        point = point_of(self.insertion.name)
        return "insert" if point is None else point.kind

    @property
    def replaces(self) -> bool:
        """Whether the module takes the place of a layer."""
        return self.kind != "insert"

    @classmethod
    def from_config(cls, module: Plain, insertion: Plain) -> GraftSpec:
        """Return a graft from the sections `module` and `insertion` of a configuration.

        Raises:
            ConfigError: The module is to be like one that does not exist.
        """
        spec = ModuleSpec.from_plain(module)
        return cls(spec, InsertionSpec.from_plain(insertion, spec.default_insertion))

    @classmethod
    def from_text(cls, text: str, where: str = "grafts") -> GraftSpec:
        """Return the graft that a text such as ``hmha[rerank=batch]@c3k2[rezero]`` or ``sta@4+6`` means.

        Without a place it goes to the module's default one; options that are not given have the values of the module's
        file. Whether the options and the place exist is not looked at here.

        Raises:
            ConfigError: The text has another form, or there is no such module.
        """
        match = _GRAFT.fullmatch(text.strip())
        if match is None:
            raise ConfigError(f"{where}: '{text}' is no graft; the form is {FORM}, for example hmha@c3k2")
        name, valid = match["name"].strip(), module_names()
        if name not in valid:
            part = next((part for part in ("box", "cls") if name in options(f"loss/{part}")), None)
            if part is not None:
                raise ConfigError(f"{where}: '{text}': {name} is a loss, no module: loss.{part}={name}")
            raise ConfigError(f"{where}: '{text}': no module '{name}'. {nearest(name, valid)}valid: {named(valid)}")
        place, wiring = (match["place"] or "customary").strip(), (match["wiring"] or "plain").strip()
        insertion: Plain = {"name": place, "at": None, "wiring": wiring}
        if layers := layers_of(place):
            insertion |= {"name": layers[0], "at": list(layers[1])}
        content = {
            **_module_file(name, Path.cwd()),
            **bracket_options(match["options"] or "", f"{where}: '{text}'", _NO_OPTIONS, FORM),
        }
        module = ModuleSpec.from_plain(content, where)
        if place == "customary" and module.default_insertion is None:
            raise ConfigError(
                f"{where}: '{text}': the file of module {name} names no place (insertion); write {name}@head"
            )
        return cls(module, InsertionSpec.from_plain(insertion, module.default_insertion))

    @classmethod
    def from_plain(cls, content: Plain | str) -> GraftSpec:
        """Return a graft from one entry of `grafts`: a text, or a mapping of module and insertion.

        Raises:
            ConfigError: The text is no graft.
        """
        return cls.from_text(content) if isinstance(content, str) else cls.from_config(**content)

    @classmethod
    def from_head(cls, text: str) -> GraftSpec:
        """Return what the key `head` of a configuration means: a module such as ``dyhead[blocks=2]`` at Detect.

        Raises:
            ConfigError: The text is no module, or names another place.
        """
        head = cls.from_text(text if "@" in text else f"{text}@{HEAD_POINT}", "head")
        if head.insertion.name != HEAD_POINT:
            raise ConfigError(f"head={text}: a head goes to {HEAD_POINT} only: head={text.partition('@')[0]}")
        return head

    @property
    def text(self) -> str:
        """Return the graft in the syntax of the command line, with the options that differ from its module's file."""
        wiring = "" if self.insertion.wiring == "plain" else f"[{self.insertion.wiring}]"
        return f"{self.module.text}@{self.insertion.name}{wiring}"

    @property
    def key(self) -> Plain:
        """Return what of the graft can change a result: class, options and source of its module, and its insertion.

        Part of a trial's signature: what is returned for a graft must stay as it is.

        Raises:
            ConfigError: The class of the module cannot be found.
        """
        if self.module.is_network:
            return ImportedNetwork.from_options(self.module.options).key
        module, like = self.module.to_plain(named=False), self.module.like
        key = {"module": module, "source": _source(self.module), "insertion": self.insertion.to_plain()}
        if like is not None:
            key |= {"module": {**module, "like": like.to_plain(named=False)}, "like": _source(like)}
        return key

    def to_plain(self, *, named: bool = True) -> Plain:
        """Return the graft as a configuration holds it; not `named`: as a network's yaml does."""
        return {"module": self.module.to_plain(named=named), "insertion": self.insertion.to_plain()}


def grafts_of_config(config: Plain) -> list[GraftSpec]:
    """Return what `module` with `insertion`, `grafts` and `head` of a configuration put into a network, in this order.

    Raises:
        ConfigError: An entry of `grafts`, or `head`, is not valid graft syntax.
    """
    module, head = config.get("module", {}), config.get("head")
    first = [] if module.get("_target_") is None else [GraftSpec.from_config(module, config["insertion"])]
    last = [] if head is None else [GraftSpec.from_head(str(head))]
    return [*first, *map(GraftSpec.from_plain, config.get("grafts") or []), *last]


def read_grafts(content: Plain) -> tuple[GraftSpec, ...]:
    """Return the grafts that a network's yaml holds."""
    return tuple(map(GraftSpec.from_plain, content.get("grafts", [content])))


def write_grafts(grafts: Sequence[GraftSpec]) -> Plain:
    """Return grafts, at least one, as a network's yaml holds them; `read_grafts` is the inverse."""
    plain = [graft.to_plain(named=False) for graft in grafts]
    return plain[0] if len(plain) == 1 else {"grafts": plain}


def targets_of(grafts: Iterable[GraftSpec]) -> list[str]:
    """Return the dotted paths of the classes that grafts are made from, each once."""
    return list(dict.fromkeys(target for graft in grafts for target in graft.module.targets))


def module_names() -> list[str]:
    """Return the names of the modules that can be grafted."""
    return [name for name in options("module") if name != "none"]


def is_graft(text: str) -> bool:
    """Tell whether a text begins with a module's name, as a graft does."""
    name = re.match(r"[^\[\]@=]+", text.strip())
    return name is not None and name[0].strip() in module_names() and text.strip()[name.end() : name.end() + 1] != "="


def quote(words: Iterable[str]) -> str:
    """Return words as a list in Hydra's grammar, whatever characters they hold."""
    return "[" + ",".join("'" + word.replace("'", "\\'") + "'" for word in words) + "]"


def split(text: str) -> list[str]:
    """Split a text at the commas that stand outside of brackets."""
    words, depth = [""], 0
    for letter in text:
        depth += {"[": 1, "]": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            words.append("")
        else:
            words[-1] += letter
    return [word.strip() for word in words if word.strip()]


def plain_value(text: str) -> bool | int | float | str | None:
    """Return what a value on the command line means: a truth value, null, a number, or the text itself."""
    constants = {"true": True, "false": False, "null": None}
    if text.lower() in constants:
        return constants[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _source(module: ModuleSpec) -> str:
    return module_source(module.target).sha256


@cache
def _module_file(name: str, folder: Path) -> Plain:
    """Return what a module's file holds, read once for each working folder, where a user may keep her own."""
    return module_file(name)


def bracket_options(text: str, where: str, reserved: Sequence[str], form: str) -> Plain:
    """Return the options that stand in the brackets of a module or a loss, such as ``alpha=1.9,delta=3``.

    Args:
        text: What is between the brackets.
        where: Leads the message of an error.
        reserved: Names that are no options.
        form: How the whole is written, for the message.

    Raises:
        ConfigError: A part is no option and value, or an option is given twice.
    """
    options: Plain = {}
    for item in split(text):
        name, sign, value = (part.strip() for part in item.partition("="))
        if not sign or not name or name in reserved:
            raise ConfigError(f"{where}: '{item}' is no option=value; the form is {form}")
        if name in options:
            raise ConfigError(f"{where}: {name} is given twice: {options[name]} and {value}; choose one")
        options[name] = plain_value(value)
    return options
