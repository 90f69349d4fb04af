"""A change of anything that a class's source stands on changes its hash; what it does not stand on leaves it alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.sources.same_source import VERSION_0_1_0, current

from ablate.settings.schema import option_file, options
from ablate.sources.module_source import ModuleSource, module_source

Write = Callable[..., None]

CLASS = "class Block:\n    pass\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write files below the working folder, which is on `sys.path`: path=content."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)

    def to_disk(files: dict[str, str | bytes]) -> None:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return to_disk


# How a file of the user's is imported: its name, the target, and the other files.
IMPORTS: dict[str, tuple[str, str, dict[str, str]]] = {
    "from . import x": ("p1/x.py", "p1.a.Block", {"p1/a.py": f"from . import x\n{CLASS}"}),
    "from .x import b": ("p2/x.py", "p2.a.Block", {"p2/a.py": f"from .x import b\n{CLASS}", "p2/__init__.py": ""}),
    "from ..other import c": ("p3/o/c.py", "p3.s.a.Block", {"p3/s/a.py": f"from ..o import c\n{CLASS}"}),
    "from ... of a deep package": ("p4/x.py", "p4.s.t.a.Block", {"p4/s/t/a.py": f"from ... import x\n{CLASS}"}),
    "import pkg.sub as s": ("p5/s/__init__.py", "p5.a.Block", {"p5/a.py": f"import p5.s as s\n{CLASS}"}),
    "from pkg.sub import X": ("p6/s.py", "p6.t.a.Block", {"p6/t/a.py": f"from p6.s import X\n{CLASS}"}),
    "in a function": ("p7/x.py", "p7.a.Block", {"p7/a.py": f"{CLASS}    def f(self):\n        from .x import y\n"}),
    "in a try block": (
        "p8/x.py",
        "p8.a.Block",
        {"p8/a.py": f"try:\n    from .x import y\nexcept E:\n    y=1\n{CLASS}"},
    ),
    "a re-export": (
        "p9/s/x.py",
        "p9.Block",
        {"p9/__init__.py": "from .s import Block", "p9/s/__init__.py": "from .x import Block"},
    ),
    "a class of another package, imported": ("p10b/x.py", "p10.Block", {"p10.py": "from p10b.x import Block"}),
    "a file beside a single file": ("p11_help.py", "p11.Block", {"p11.py": f"import p11_help\n{CLASS}"}),
    "a package beside a single file": ("p12h/x.py", "p12.Block", {"p12.py": f"from p12h import x\n{CLASS}"}),
    "a star import": ("p13/x.py", "p13.a.Block", {"p13/a.py": f"from .x import *\n{CLASS}"}),
    "a star import by __all__": (
        "p14/s/x.py",
        "p14.a.Block",
        {"p14/a.py": f"from p14.s import *\n{CLASS}", "p14/s/__init__.py": "__all__ = ['x']"},
    ),
    "import_module": (
        "p15/x.py",
        "p15.a.Block",
        {"p15/a.py": f"import importlib as i\nx = i.import_module('.x', __package__)\n{CLASS}"},
    ),
    "import_module of a computed name": (
        "p16/x.py",
        "p16.a.Block",
        {"p16/a.py": f"import importlib as i\nx = i.import_module(f'p16.{{y}}')\n{CLASS}", "p16/__init__.py": ""},
    ),
    "the package's own __init__": ("p17/__init__.py", "p17.a.Block", {"p17/a.py": CLASS}),
    "what the package's own __init__ imports": (
        "p18/x.py",
        "p18.a.Block",
        {"p18/a.py": CLASS, "p18/__init__.py": "from .x import scale\n"},
    ),
    "an import of an import": (
        "p19/z.py",
        "p19.a.Block",
        {"p19/a.py": f"from . import y\n{CLASS}", "p19/y.py": "from . import z\n"},
    ),
    "a base class elsewhere": ("p20b.py", "p20.Block", {"p20.py": "import p20b\nclass Block(p20b.Base): ...\n"}),
}


@pytest.mark.parametrize("form", IMPORTS)
def test_what_a_class_imports_is_part_of_it_in_every_form(form: str, write: Write) -> None:
    name, target, others = IMPORTS[form]
    write({name: CLASS, **others})
    before = module_source(target)
    write({name: f"{CLASS}# changed\n"})

    assert module_source(target).sha256 != before.sha256
    top = target.partition(".")[0]
    assert top not in sys.modules, "reading imported the user's code"


def test_what_lies_beside_and_is_not_imported_is_no_part_of_it(write: Write) -> None:
    write({"q1.py": CLASS, "q1_other.py": "", "q2/a.py": CLASS, "q2/other.py": "", "q2/sub/__init__.py": ""})
    before = [module_source(target).sha256 for target in ("q1.Block", "q2.a.Block")]
    write({"q1_other.py": "# changed", "q2/other.py": "# changed", "q2/sub/__init__.py": "# changed"})

    assert [module_source(target).sha256 for target in ("q1.Block", "q2.a.Block")] == before


def test_our_module_that_a_user_s_derives_from_is_part_of_it(write: Write) -> None:
    ours = "from ablate.modules{} import HMHA\nclass Block(HMHA): ...\n"
    write({"r1.py": ours.format(".hmha"), "r2.py": ours.format("")})

    for target in ("r1.Block", "r2.Block"):
        assert "hmha.py" in [path.name for path in module_source(target).files]
        assert "acmix.py" not in [path.name for path in module_source(target).files]


# What counts of the data beside a module: the file that changes, the target, the module's text, whether it counts.
DATA: dict[str, tuple[str, str, str, bool]] = {
    "a table in a package": ("d1/table.npy", "d1.a.Block", "", True),
    "weights in a folder of a package": ("d2/assets/w.pt", "d2.a.Block", "", True),
    "a kernel in a package": ("d3/kernels.cu", "d3.a.Block", "", True),
    "a package's documents": ("d4/README.md", "d4.a.Block", "", False),
    "a package's caches": ("d5/__pycache__/a.cpython-311.pyc", "d5.a.Block", "", False),
    "a package's log": ("d6/train.log", "d6.a.Block", "", False),
    "data beside a single file": ("d7_images/1.png", "d7.Block", "", False),
    "a table that a single file names": ("d8_table.npy", "d8.Block", "Path(__file__).parent / 'd8_table.npy'", True),
    "one in a folder": ("d9t/x/gauss.json", "d9.Block", "Path(__file__).parent / 'd9t' / 'x' / 'gauss.json'", True),
    "one by a path": ("d10t/gauss.json", "d10.Block", "open('d10t/gauss.json')", True),
    "one whose name is computed": ("d11_5.npy", "d11.Block", "f'd11_{size}.npy'", True),
    "one whose name is formatted": ("d12_5.npy", "d12.Block", "'d12_{}.npy'.format(5)", True),
    "several by a pattern": ("d13t/5.npy", "d13.Block", "Path('d13t').glob('*.npy')", True),
    "a folder that is named": ("d14t/5.npy", "d14.Block", "for p in Path('d14t').iterdir(): ...", True),
    "one by its suffix": ("d15.json", "d15.Block", "Path(__file__).with_suffix('.json')", True),
    "one above the package's folder": ("d16/w/x.npy", "d16.s.a.Block", "P(__file__).parents[1] / 'w' / 'x.npy'", True),
    "a kernel's header": ("d17.cuh", "d17.Block", "load(sources=['d17.cu'])", True),
    "a sweep's root that is named": ("d18/trials/x/result.json", "d18m.Block", "'d18'", False),
}


@pytest.mark.parametrize("case", DATA)
def test_data_files_count_by_two_rules(case: str, write: Write) -> None:
    name, target, text, counts = DATA[case]
    module = f"{target.rpartition('.')[0].replace('.', '/')}.py"
    write({module: f"{CLASS}    x = lambda: ({text or None})\n" if "for " not in text else f"{CLASS}\n{text}\n"})
    write({name: b"1", "d17.cu": b'#include "d17.cuh"\n'})
    before = module_source(target).sha256
    write({name: b"2"})

    assert (module_source(target).sha256 != before) is counts


def test_a_large_folder_of_a_package_does_not_count_unless_it_is_named(write: Write) -> None:
    many = {f"e1/images/{number}.png": b"1" for number in range(300)}
    write({"e1/a.py": f"{CLASS}    table = 'images/7.png'\n", **many})

    assert [name for name, _ in module_source("e1.a.Block").data] == ["e1/images/7.png"]


def install(folder: Path, version: str, **more: str) -> None:
    for old in folder.glob("blocks_of_others-*.dist-info"):
        for file in old.iterdir():
            file.unlink()
        old.rmdir()
    metadata = folder / f"blocks_of_others-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: blocks-of-others\nVersion: {version}\n")
    (metadata / "RECORD").write_text("others/__init__.py,,\nothers/deep.py,,\n")
    for name, text in more.items():
        (metadata / f"{name}.json").write_text(text)


@pytest.mark.parametrize("target", ["others.Block", "others.deep.Block", "imports_others.Block"])
def test_of_an_installed_package_the_version_counts(target: str, tmp_path: Path, write: Write) -> None:
    write({"others/__init__.py": "from .deep import Block", "others/deep.py": CLASS, "others/x.py": ""})
    write({"imports_others.py": f"from others.deep import Block as Base\n{CLASS}"})
    hashes = []
    for version in ("1.0", "1.1", "1.0"):
        install(tmp_path, version)
        hashes.append(module_source(target).sha256)
    write({"others/x.py": "# not looked at"})

    assert hashes[0] == hashes[2] == module_source(target).sha256
    assert hashes[0] != hashes[1]
    assert [str(each) for each in module_source(target).distributions] == ["blocks-of-others==1.0"]
    assert len(module_source(target).files) == 1


def test_of_a_package_installed_from_its_author_s_folder_the_source_counts(tmp_path: Path, write: Write) -> None:
    write({"others/__init__.py": "", "others/deep.py": f"from . import x\n{CLASS}", "others/x.py": ""})
    install(tmp_path, "1.0", direct_url='{"dir_info": {}, "url": "file:///home/me/others"}')
    before = module_source("others.deep.Block").sha256
    write({"others/x.py": "# edited, and installed again under the same version"})

    assert module_source("others.deep.Block").sha256 != before


def test_of_torch_s_own_classes_the_version_and_the_defining_file_are_read() -> None:
    from importlib.metadata import version

    source = module_source("torch.nn.Identity")

    assert [str(each) for each in source.distributions] == [f"torch=={version('torch')}"]
    assert [path.name for path in source.files] == ["linear.py"]


def test_reading_imports_neither_torch_nor_the_user_s_package(write: Write) -> None:
    write({"loud/__init__.py": "raise SystemExit('imported')", "loud/a.py": f"import torch\n{CLASS}"})
    code = (
        "import sys; sys.path.insert(0, '.'); from ablate.sources.module_source import module_source as m\n"
        "m('loud.a.Block'), m('torch.nn.Conv2d'), m('torchvision.ops.misc.SqueezeExcitation')\n"
        "print({'torch', 'torchvision', 'loud'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.strip() == "set()"


def test_signatures_of_before_stay_valid(write: Write) -> None:
    """Hashes that the rule gave which counted imports inside the module's folder only."""
    alone = (
        '"""A block of the user\'s own that imports nothing."""\n\n\n'
        "class Block:\n    def __init__(self, channels):\n        self.channels = channels\n"
    )
    torched = (
        "import torch\nfrom torch import nn\n\n\nclass Block(nn.Module):\n    def __init__(self, channels):\n"
        "        super().__init__()\n        self.conv = nn.Conv2d(channels, channels, 1)\n\n"
        "    def forward(self, x):\n        return torch.relu(self.conv(x))\n"
    )
    write({"alone.py": alone, "torched.py": torched, "two/__init__.py": "", "two/parts.py": "half = 0.5\n"})
    write({"two/block.py": "from two.parts import half\n\n\nclass Block:\n    factor = half\n"})

    hashes = {name: module_source(name).sha256 for name in ("alone.Block", "torched.Block", "two.block.Block")}
    assert hashes == {
        "alone.Block": "d147a620d44d107e5805fe698a9fa47e58af3b320669ca235e34df6d21ec9d9e",
        "torched.Block": "09a47d017f36988e018e915a9ef132814969cc420a1dec15bd6c225b872278c2",
        "two.block.Block": "4a94be4ae0d8c6c2f996e0d0f281772d8039fbb40dd8a4e013082d5a20171396",
    }


def files_of(source: ModuleSource) -> list[str]:
    folder = next(parent for parent in source.files[0].parents if parent.name == "modules")
    return [path.relative_to(folder).as_posix() for path in source.files]


def test_of_our_modules_the_same_files_count_as_before() -> None:
    expected = {
        "acmix": ["acmix.py", "kernels/__init__.py"],
        "convblock": ["convblock.py"],
        "identity": ["identity.py"],
    }
    for name in options("module"):
        target = option_file("module", name).get("_target_")
        if target is None or not target.startswith("ablate."):
            continue
        source = module_source(target)
        assert source.sha256 == VERSION_0_1_0.get(target, current(target)), "python tests/sources/same_source.py"
        assert files_of(source)[: len(expected.get(name, []))] == expected.get(name, [])
        assert "__init__.py" not in files_of(source)
        assert (source.data, source.distributions) == ((), ())
