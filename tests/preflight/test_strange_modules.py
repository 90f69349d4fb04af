"""Whatever a stranger's module does, the preflight says it in a line, and `skip_invalid` leaves the variant out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import torch

from ablate.data.catalogue import DataSet
from ablate.errors import ConfigError
from ablate.grafting import module_calls
from ablate.grafting.construction import construct
from ablate.preflight.networks import contract_notes, preflight
from ablate.settings.schema import Config
from ablate.settings.trial_settings import TrialSettings
from ablate.settings.validation import check
from ablate.study.trial import Trial

DATA = DataSet("mine", Path("mine.yaml"), ["a", "b", "c"], {"train": 8, "val": 4}, {"train": 8, "val": 4}, "f" * 64)

HEAD = """
import functools, sys, time, torch
from dataclasses import dataclass
from torch import nn

class Base(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)
    def forward(self, x): return x + self.conv(x)

class Odd(BaseException): pass
class Stop(KeyboardInterrupt): pass
class Mute(Exception):
    def __str__(self): raise ValueError
def deep(n): return deep(n + 1)
"""


def trial(target: str, place: str = "neck_p5", checked: bool = True, **options: Any) -> Trial:
    content = asdict(Config())
    content["data"] = {"name": "mine", "path": "mine.yaml"}
    content["module"] = {"name": "gate", "_target_": target, "insertion": place, **options}
    content["model"] |= {"name": "yolo26n", "architecture": "yolo26n.yaml", "weights": None}
    content["train"]["imgsz"] = 64
    if checked:
        check({**content, "insertion": asdict(Config().insertion) | {"name": place}})
    content["insertion"] = asdict(Config().insertion) | {"name": place}
    return Trial.of(TrialSettings.from_plain(content), DATA)


@pytest.fixture
def blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """The file of a user's modules, of a name of its own; the networks are built in this process."""
    monkeypatch.setenv("ABLATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    number = crc32(request.node.name.encode())
    return tmp_path / f"blocks_{number}.py"


def complaint(blocks: Path, body: str, name: str = "Gate", **options: Any) -> str:
    """Return why a module of this source is refused, where it is left out; it must be one line."""
    blocks.write_text(HEAD + body, encoding="utf-8")
    answer = preflight([trial(f"{blocks.stem}.{name}", **options)], skip_invalid=True)
    assert not answer.answers
    (reason,) = answer.invalid.values()
    assert "\n" not in reason
    return reason


RAISED = {
    "assert": ("assert channels == 5, 'five'", "AssertionError: five"),
    "an assert without words": ("assert channels == 5", "py, line 19: assert channels == 5"),
    "several lines": ("raise RuntimeError('first\\nsecond')", "RuntimeError: first"),
    "an empty first line": ("raise ValueError('\\n\\n  third')", "ValueError: third"),
    "an end": ("sys.exit(3)", "SystemExit: 3"),
    "an interrupt of its own": ("raise Stop('x')", "Stop: x"),
    "a class of its own": ("raise Odd('x')", "Odd: x"),
    "a message that raises": ("raise Mute()", "Mute: "),
    "endless recursion": ("deep(0)", "RecursionError: maximum recursion depth"),
    "torch": ("torch.zeros(2) + torch.zeros(3)", "RuntimeError: The size of tensor a"),
    "escape codes": ("raise ValueError('\\x1b[31mred')", "ValueError:  [31mred"),
    "memory": ("torch.empty(10**15)", "RuntimeError: "),
    "a generator's end": ("raise StopIteration", "StopIteration: "),
}


@pytest.mark.security(
    "Module", "Whatever its constructor raises, SystemExit too, ends in a line; other variants go on."
)
@pytest.mark.usefixtures("builds_here")
@pytest.mark.parametrize("case", RAISED)
def test_what_a_constructor_raises_names_place_and_channels(case: str, blocks: Path) -> None:
    body, expected = RAISED[case]
    reason = complaint(blocks, f"class Gate(Base):\n    def __init__(self, channels):\n        {body}\n")

    assert reason.startswith("yolo26n: gate at neck_p5: constructor with 256 channels: ")
    assert expected in reason


@pytest.mark.usefixtures("builds_here")
@pytest.mark.parametrize("case", ["an end", "an interrupt of its own", "a class of its own", "an assert without words"])
def test_what_a_forward_raises_names_place_and_input(case: str, blocks: Path) -> None:
    body = RAISED[case][0].replace("channels", "len(x)")
    reason = complaint(blocks, f"class Gate(Base):\n    def forward(self, x):\n        {body}\n        return x\n")

    assert reason.startswith("yolo26n: gate at neck_p5: raised ")
    assert "for (1, 256, 2, 2)" in reason


HOOKS = {
    "link": ("@staticmethod\n    def link(modules, network): raise Odd('x')", "gate at neck_p5: link: Odd: x"),
    "link, other arguments": ("@staticmethod\n    def link(): pass", "gate at neck_p5: link: TypeError: "),
    "describe": ("def describe(self): raise Odd('x')", "gate at neck_p5: describe: Odd: x"),
    "describe, no mapping": ("def describe(self): return 3", "describe: TypeError: returned int"),
    "describe, no plain value": ("def describe(self): return {'a': torch.ones(1)}", "describe: TypeError: "),
    "no_weight_decay": ("def no_weight_decay(self): raise Odd('x')", "gate at neck_p5: no_weight_decay: Odd: x"),
    "no_weight_decay, nothing": ("def no_weight_decay(self): return None", "no_weight_decay: TypeError"),
    "no_weight_decay, unknown": ("def no_weight_decay(self): return {'bias'}", "names unknown parameters: bias"),
    "uncounted_flops": ("def uncounted_flops(self, h, w): raise Odd('x')", "gate at neck_p5: uncounted_flops: Odd: x"),
    "uncounted_flops, a text": ("def uncounted_flops(self, h, w): return 'x'", "uncounted_flops: ValueError: "),
    "a copy": ("def __deepcopy__(self, memo): raise Odd('x')", "cannot be copied, as the average of weights"),
    "a lock": ("def __init__(self, c):\n        super().__init__(c)\n        import threading; "
               "self.lock = threading.Lock()", "TypeError: cannot pickle '_thread.lock' object"),
    "a file": ("def __reduce__(self): raise Odd('x')\n    def __deepcopy__(self, memo): return self",
               "cannot be saved in a checkpoint: Odd: x"),
    "a backward": ("def forward(self, x): return Bad.apply(x) + self.conv(x)", "its gradient cannot be computed: x"),
}  # fmt: skip
BAD = """
class Bad(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x): return x.clone()
    @staticmethod
    def backward(ctx, g): raise Odd('x')
"""


@pytest.mark.usefixtures("builds_here")
@pytest.mark.parametrize("hook", HOOKS)
def test_an_optional_method_that_fails_is_named(hook: str, blocks: Path) -> None:
    body, expected = HOOKS[hook]

    assert expected in complaint(blocks, f"{BAD}class Gate(Base):\n    {body}\n")


LATE = {
    "a lazy layer": ("self.late = nn.LazyConv2d(channels, 1)", "return self.late(x)", "late.weight, late.bias"),
    "in the forward": ("self.late = None", "self.late = self.late or nn.Conv2d(256, 256, 1); return self.late(x)",
                       "late.weight, late.bias"),
    "in train mode": ("self.late = None", "self.late = (self.late or nn.PReLU()) if self.training else None; "
                      "return x + self.conv(x)", "late.weight"),
    "made again": ("", "self.conv = nn.Conv2d(256, 256, 1); return self.conv(x)", "conv.weight, conv.bias"),
}  # fmt: skip


@pytest.mark.usefixtures("builds_here")
@pytest.mark.parametrize("case", LATE)
def test_parameters_made_in_the_first_forward_are_refused(case: str, blocks: Path) -> None:
    made, forward, names = LATE[case]
    reason = complaint(
        blocks,
        f"class Gate(Base):\n    def __init__(self, channels):\n        super().__init__(channels)\n        {made}\n"
        f"    def forward(self, x):\n        {forward}\n",
    )

    assert f"gate at neck_p5: makes parameters in its first forward ({names}); optimizer" in reason


@pytest.mark.usefixtures("builds_here")
def test_a_buffer_made_in_the_first_forward_is_a_note(blocks: Path) -> None:
    blocks.write_text(
        f"{HEAD}class Gate(Base):\n    def forward(self, x):\n        if not hasattr(self, 'scale'):\n"
        "            self.register_buffer('scale', torch.ones(1))\n        return super().forward(x) * self.scale\n"
    )
    trials = [trial(f"{blocks.stem}.Gate")]

    notes = contract_notes(trials, preflight(trials).answers)

    assert len(notes) == 1
    assert "adds scale to its state" in notes[0]


HANGS = {
    "constructor": "def __init__(self, channels):\n        while True: pass",
    "eval": "def forward(self, x):\n        while not self.training: time.sleep(0.01)\n        return x",
    "train": "def forward(self, x):\n        while self.training: time.sleep(0.01)\n        return x",
    "describe": "def describe(self):\n        while True: pass",
    "a copy": "def __deepcopy__(self, memo):\n        while True: pass",
}


@pytest.mark.security("Module", "A constructor or forward that does not return is ended in the preflight, after 60 s.")
@pytest.mark.usefixtures("builds_here")
@pytest.mark.parametrize("case", HANGS)
def test_a_call_that_does_not_return_is_ended(case: str, blocks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_calls, "CALL_SECONDS", 0.5)

    reason = complaint(blocks, f"class Gate(Base):\n    {HANGS[case]}\n")

    assert reason.startswith("yolo26n: gate at neck_p5: ")
    assert "no return within 0.5 s" in reason


def test_calls_are_ended_in_the_worker_too(blocks: Path) -> None:
    limits = "from ablate.grafting import module_calls as m\nm.CALL_SECONDS, m._GRACE = 0.3, 0.3\n"
    deaf = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})"
    loop = "while True: time.sleep(1)\n"
    body = f"{limits}class Deaf(Base):\n    def forward(self, x):\n        {deaf}\n        {loop}"
    body += f"class Slow(Base):\n    def forward(self, x):\n        {loop}"
    blocks.write_text(HEAD + body, encoding="utf-8")
    trials = [trial(f"{blocks.stem}.{name}") for name in ("Slow", "Deaf")]

    reasons = list(preflight(trials, skip_invalid=True).invalid.values())

    assert reasons[0] == "yolo26n: gate at neck_p5: no return within 0.3 s for (1, 256, 2, 2)"
    assert reasons[1].endswith("the worker process died (exit code 1) in gate at neck_p5: forward of (1, 256, 2, 2)")


FINE = {
    "under if and else": "if sys.version_info > (3, 0):\n    class Gate(Base): pass\nelse:\n    class Gate: pass\n",
    "under try": "try:\n    class Gate(Base): pass\nexcept Exception:\n    Gate = None\n",
    "instead of an import": "try:\n    from nowhere import Gate\nexcept ImportError:\n    class Gate(Base): pass\n",
    "a function": "def Gate(channels, k: int = 1): return nn.Conv2d(channels, channels, k)\n",
    "a lambda": "Gate = lambda channels: nn.Conv2d(channels, channels, 1)\n",
    "a partial": "Gate = functools.partial(nn.Conv2d, out_channels=256, kernel_size=1)\n",
    "a partial by position": "Gate = functools.partial(Base)\n",
    "an alias": "class _Gate(Base): pass\nGate = _Gate\n",
    "an alias of an import": "import torch.nn as tn\nGate = tn.BatchNorm2d\n",
    "lazy": "def __getattr__(name):\n    if name == 'Gate': return Base\n    raise AttributeError(name)\n",
    "lazy, attached": "def attach(): return lambda name: {'Gate': Base}[name]\n__getattr__ = attach()\n",
    "a loop": "for Gate in [Base]: pass\n",
    "globals": "globals().update(Gate=Base)\n",
    "match": "match 1:\n    case 1:\n        class Gate(Base): pass\n",
    "a with": "import contextlib\nwith contextlib.nullcontext():\n    class Gate(Base): pass\n",
    "made by a call": "def make():\n    global Gate\n    Gate = Base\nmake()\n",
    "dataclass": "@dataclass(eq=False)\nclass Gate(nn.Module):\n    channels: int\n    def __post_init__(self):\n"
                 "        super().__init__()\n        self.conv = nn.Conv2d(self.channels, self.channels, 1)\n"
                 "    def forward(self, x): return self.conv(x)\n",
    "a decorated class": "def named(cls):\n    return cls\n@named\nclass Gate(Base): pass\n",
    "a decorated constructor": "def add(f):\n    @functools.wraps(f)\n    def g(self, channels): f(self, channels, 1)\n"
                               "    g.__wrapped__ = None; del g.__wrapped__\n    return g\nclass Gate(Base):\n"
                               "    @add\n    def __init__(self, channels, k): super().__init__(channels)\n",
    "__new__": "class Gate(Base):\n    def __new__(cls, *a, **k): return super().__new__(cls)\n",
    "__new__ that chooses": "class Gate:\n    def __new__(cls, channels): return Base(channels)\n",
    "a metaclass": "class Meta(type):\n    def __call__(cls, channels): return super().__call__(channels, 2)\n"
                   "class Gate(Base, metaclass=Meta):\n    def __init__(self, c, k): super().__init__(c)\n",
    "keyword-only channels": "class Gate(Base):\n    def __init__(self, *, channels): super().__init__(channels)\n",
    "positional-only channels": "class Gate(Base):\n    def __init__(self, channels, /): super().__init__(channels)\n",
    "any arguments": "class Gate(Base):\n    def __init__(self, *args, **options): super().__init__(*args)\n",
    "output channels": "class Gate(nn.Conv2d):\n    def __init__(self, c1, c2, k=1): super().__init__(c1, c2, k)\n",
    "no channels": "class Gate(nn.Module):\n    def __init__(self): super().__init__()\n"
                   "    def forward(self, x): return x\n",
    "no constructor": "class Gate(nn.Module):\n    def forward(self, x): return 2 * x\n",
    "a flag first": "class Gate(nn.ReLU):\n    def __init__(self, inplace: bool = False): super().__init__(inplace)\n",
    "a share first": "class Gate(nn.Dropout2d):\n    def __init__(self, p=0.1): super().__init__(p)\n",
    "quoted annotations": "class Gate(Base):\n    def __init__(self, channels: 'int', p: 'float' = 0.1):\n"
                          "        super().__init__(channels)\n",
}  # fmt: skip
NAMES = {"a classmethod": "Outer.small", "a class in a class": "Outer.Gate"}


@pytest.mark.parametrize("case", [*FINE, *NAMES, "a star"])
def test_what_is_fine_is_not_refused(case: str, blocks: Path) -> None:
    outer = "    @classmethod\n    def small(cls, channels): return cls(channels)\n    class Gate(Base): pass\n"
    body = FINE.get(case, f"class Outer(Base):\n{outer}class Gate(Base): pass\n")
    blocks.write_text(HEAD + body, encoding="utf-8")
    blocks.with_name(f"star_{blocks.name}").write_text(f"from {blocks.stem} import *\n", encoding="utf-8")
    home = f"star_{blocks.stem}" if case == "a star" else blocks.stem
    (graft,) = trial(f"{home}.{NAMES.get(case, 'Gate')}").settings.grafts

    module = construct(graft.module, 256, 0, "here")

    assert module(torch.ones(2, 256, 3, 5)).shape == (2, 256, 3, 5)


OF_OTHERS = {
    "torch.nn.ReLU": {},
    "torch.nn.GroupNorm": {"num_groups": 8},
    "torch.nn.Conv2d": {"kernel_size": 3, "padding": 1},
    "torchvision.ops.misc.SqueezeExcitation": {"squeeze_channels": 8},
    "timm.layers.create_attn": {"attn_type": "eca"},
    "ultralytics.nn.modules.C2f": {"n": 1},
    "ultralytics.nn.modules.SpatialAttention": {"kernel_size": 7},
}


@pytest.mark.usefixtures("builds_here", "blocks")
def test_modules_of_other_packages_need_no_file_of_ones_own() -> None:
    trials = [trial(target, **options) for target, options in OF_OTHERS.items()]

    assert preflight(trials, skip_invalid=True).invalid == {}


WRONG = {
    "no module": ("def Gate(channels): return 3\n", "gate at neck_p5: it returned int; a torch.nn.Module is needed"),
    "a coroutine": ("async def Gate(channels): return 3\n", "it returned coroutine"),
    "a class made inside": ("def Gate(channels):\n    class Inner(Base): pass\n    return Inner(channels)\n",
                            "cannot be saved in a checkpoint"),
    "an unknown option": ("Gate = functools.partial(Base)\n", "got an unexpected keyword argument 'deph'"),
}  # fmt: skip


@pytest.mark.usefixtures("builds_here")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("case", WRONG)
def test_what_a_function_makes_must_be_a_module_that_can_be_saved(case: str, blocks: Path) -> None:
    body, expected = WRONG[case]

    assert expected in complaint(blocks, body, **({"deph": 1} if case == "an unknown option" else {}))


@pytest.mark.usefixtures("builds_here")
@pytest.mark.parametrize("body", ["raise Odd('x')", "1 / 0", "sys.exit()", "Gate = 3", "Gate = int", "Gate = Base(3)"])
def test_a_file_that_cannot_be_imported_ends_the_command_in_a_line(body: str, blocks: Path) -> None:
    blocks.write_text(f"{HEAD}{body}\n", encoding="utf-8")

    with pytest.raises(ConfigError, match=r"Gate'|Gate: ") as refused:
        preflight([trial(f"{blocks.stem}.Gate", checked="Gate" in body)], skip_invalid=True)
    assert "\n" not in str(refused.value)
