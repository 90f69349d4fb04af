"""Random command lines: how each ends, how long it takes, and what it says.

    python tests/fuzz/command_lines.py --seed 1 --count 1000 [--out lines.jsonl]

Each line runs in a process of its own, forked from one that has imported Hydra, in a folder with odd files. It is good
input, which is stopped where networks would be built or something would be trained, or it is answered by one line on
standard error and exit code 2.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

ACCEPTED = 99  # exit code of a process that is stopped where it would build networks
LIMIT = 30  # seconds
GOOD = (0, 1, 2, 141, ACCEPTED)

VERBS = ("plan",) * 8 + ("", "", "status", "report", "latency", "verify", "catalogue", "ui")
GROUPS = ("module", "insertion", "optimizer", "data", "model", "train", "tracking", "hydra/launcher")
OPTIONS = {
    "module": ("hmha", "acmix", "sta", "hat", "none", "identity", "mine", "HMHA"),
    "insertion": ("c3k2", "head", "psa", "customary", "neck_p4"),
    "optimizer": ("sgd", "musgd", "adamw", "auto"),
    "data": ("shapes", "custom", "coco8"),
    "model": ("yolo26n", "yolo11s", "yolo8n"),
    "train": ("smoke", "demo", "seed", "full"),
    "tracking": ("sqlite", "server"),
    "hydra/launcher": ("local", "ray", "slurm", "basic", "joblib", "submitit_local"),
}
BROKEN = ("notutf8", "tabs", "twice", "list", "empty", "folder", "secret", "pipe", "number", "text", "bytes", "bomb")
VALUES = (
    *("true", "false", "null", "0", "1", "2", "-1", "1.5", "-0.0", "nan", "inf", "-inf", "1e999", "1e-3", "5000000000"),
    *("99999999999999999999999999", "abc", "''", '""', "' '", "[]", "[1]", "[1,2]", "[a,b]", "[null]", "[[1]]", "{}"),
    *("{a:1}", "{a:{b:[1]}}", "None", "yes", "on", "1_000", "0x10", "0.0", "010", "2024-01-01", "~", "cpu", "x.yaml"),
    *(
        "a/b",
        "..",
        ".",
        "/",
        "/proc/x",
        "/dev/null",
        "data",
        "data/data.yaml",
        "nosuch.pt",
        "odd.pt",
        "fifo",
        "ü",
        "名前",
    ),
    *(
        "'a b'",
        "a\\ b",
        "a\\,b",
        "'a\nb'",
        "'\x1b[31mred'",
        "${seed}",
        "${nosuch}",
        "${oc.env:NOSUCH}",
        "${oc.env:HOME}",
    ),
    *("${nosuch:1}", "${module.name}", "${", "$", "???", "@x", "=", "a=b", "shuffle(1,2)", "sort(2,1)", "sort(b,a)"),
    *(
        "range(0,3)",
        "range(0,0)",
        "range(3)",
        "range(0,3,0)",
        "range(1.5,2)",
        "interval(0,1)",
        "tag(x,1)",
        "tag(a,b,1,2)",
    ),
    *(
        "glob(*)",
        "glob(nosuch*)",
        "glob([h*,a*],exclude=hat)",
        "glob(1)",
        "choice(1,2)",
        "choice(a)",
        "choice()",
        "int(1.5)",
    ),
    *(
        "float(1)",
        "str(1)",
        "bool(1)",
        "int(a)",
        "json_str('1')",
        "extend_list(1)",
        "1,2",
        "a,b",
        "1,",
        ",1",
        ",",
        "1,1",
    ),
    *("foo://bar", "http://u:p@h/x", "sqlite:///x.db", "file:x", "https://", "host:99999", "x" * 300, "é" * 200),
)
CUSTOM = {
    "grafts": (
        "[hmha@c3k2]",
        "[hmha]",
        "[hmha@]",
        "[@c3k2]",
        "[mine@head]",
        "[hmha[@c3k2]",
        "[1]",
        "hmha@c3k2",
        "[none@head]",
    ),
    "components": (
        "[hmha@c3k2,musgd]",
        "[musgd,sgd]",
        "[train.mosaic=0.5]",
        "[seed=1]",
        "[x]",
        "[hmha@c3k2,hmha@c3k2]",
    ),
    "exclude": (
        "[{module:hat}]",
        "[{modul:hat}]",
        "[hat]",
        "{module:hat}",
        "[{module:[hat]}]",
        "[{seed:{a:1}}]",
        "[{}]",
    ),
    "controls": ("[params]", "[parms]", "params", "[identity,identity]"),
    "device": ("cpu", "0", "9", "0,1", "cpu,0", "mps", "cuda", "cuda:0", "-1", "auto"),
    "design": ("product", "factorial", "leave_one_out", "one_at_a_time"),
    "root": (
        "multirun",
        "data",
        "data/data.yaml",
        "/proc/x",
        "/dev/full",
        "/",
        "readonly/x",
        "new folder",
        "'q u'",
        "~",
    ),
    "data.path": (
        "data/data.yaml",
        "data",
        "nosuch.yaml",
        "set[b].yaml",
        "a,b=c.yaml",
        "fifo",
        "odd/list.yaml",
        "odd/huge.yaml",
    ),
    "model.weights": ("odd.pt", "nosuch.pt", "yolo26n.pt", "data", "data/data.yaml", "fifo", "yolo11n.pt"),
    "model.architecture": ("nosuch.yaml", "yolo11n.yaml", "odd/list.yaml", "data", "x"),
    "sweep": ("mine", "..", ".", "a/b", "x" * 130, "-", "ü", "con.", "a b"),
    "tracking.uri": (
        "foo://bar",
        "http://127.0.0.1:1",
        "sqlite:///odd.pt",
        "data",
        "file:///tmp/x",
        "http://",
        "databricks",
    ),
}
FLAGS = (
    *(
        "-m",
        "--multirun",
        "--json",
        "--nosuch",
        "-x",
        "-cn",
        "-cn=x",
        "--config-name=x",
        "--config-dir",
        "--config-dir=conf",
    ),
    *(
        "--config-path=/tmp",
        "--info",
        "--info=nosuch",
        "--info=searchpath",
        "--resolve",
        "--package",
        "--package=train",
    ),
    *(
        "--cfg",
        "--cfg=job",
        "--cfg=x",
        "-c",
        "-cjob",
        "--experimental-rerun=x",
        "--shell-completion",
        "-sc",
        "--run",
        "-r",
    ),
    *(
        "--hydra-help",
        "--help",
        "-h",
        "--version",
        "-p",
        "-p=hydra",
        "--",
        "-",
        "--port",
        "--port=0",
        "--port=99999",
        "--port=x",
    ),
    *(
        "--golden",
        "--golden=nosuch",
        "--watch=1",
        "--all",
        "--all=1",
        "--config",
        "--inf",
        "--conf=x",
        "-v",
        "--verbose",
        "-mv",
    ),
)
WORDS = (
    "",
    " ",
    "=",
    "=x",
    "a==b",
    "a",
    "x.y",
    "1",
    "[",
    "{",
    "'",
    '"',
    "\\",
    "plan",
    "staus",
    "..",
    "/",
    "\n",
    "\t=1",
    "é=1",
    "名=1",
    "a b=1",
    "a.b.c.d=1",
    "module",
    "module=",
    "module==hmha",
    "@=1",
    "a@b=1",
    "module@x=hmha",
    "a:b=1",
    "a[0]=1",
    "train.freeze[0]=1",
    "hydra.run.dir=x",
    "hydra.mode=RUN",
    "hydra/sweeper=basic",
    "hydra.launcher._target_=os.getcwd",
    "hydra.launcher._target_=nosuch.X",
    "hydra.launcher=null",
    "hydra=null",
    "hydra/job_logging=default",
    "hydra/nosuch=x",
    "hydra.launcher.gpus=[9]",
    "hydra.launcher.nosuch=1",
    "hydra.searchpath=[x]",
    "hydra.verbose=true",
    "hydra/help=x",
)
SPECIAL = "=,()[]{}'\"\\$@~+:.#%&*?!|;<> \t\n\x00é\u202e名-_/0a"


@dataclass(frozen=True)
class Line:
    """A command line and where it runs."""

    words: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    oddity: str = ""


@dataclass(frozen=True)
class End:
    """How a command line ended.

    Attributes:
        code: Its exit code; negative for a signal, as of the time limit.
        torch: Whether it imported torch, or started a process that may, before it failed.
    """

    line: Line
    code: int
    seconds: float
    out: str
    err: str
    torch: bool

    @property
    def said(self) -> list[str]:
        """The lines on standard error."""
        return [line for line in self.err.splitlines() if line.strip()]

    @property
    def crashed(self) -> bool:
        """Whether the user sees a traceback, or that something unforeseen happened."""
        return self.code not in GOOD or "Traceback" in self.err + self.out

    @property
    def wordy(self) -> bool:
        """Whether an error is not told in one line."""
        return self.code == 2 and len(self.said) != 1


def keys() -> dict[str, tuple[str, ...]]:
    """Return all keys of the configuration, each with values that are odd for it in particular."""
    from dataclasses import fields

    from ablate.settings.option_files import SCHEMAS
    from ablate.settings.schema import training_arguments

    names = [
        f"{group}.{entry.name}" if group else entry.name
        for group, schema in SCHEMAS.items()
        for entry in fields(schema)
    ]
    names += [f"train.{name}" for name in training_arguments()]
    names += [
        "data.path",
        "data.name",
        "data.url",
        "data.images",
        "module.name",
        "module._target_",
        "module.insertion",
        "module.rerank",
        "module.num_heads",
        "module.nosuch",
        "train.nosuch",
        "nosuch",
        "nosuch.a",
        "train.lr0",
    ]
    names += [
        f"hydra.launcher.{name}" for name in ("gpus", "cpu_workers", "memory_gb", "timeout", "max_retries", "stagger")
    ]
    return {name: CUSTOM.get(name, ()) for name in names}


class Lines:
    """Random command lines; the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._keys = keys()
        self._names = list(self._keys)

    def __iter__(self) -> Iterator[Line]:
        while True:
            yield self._line()

    def _line(self) -> Line:
        pick = self._random
        verb = pick.choice(VERBS)
        words = [self._word() for _ in range(pick.choice((0, 1, 1, 1, 2, 2, 3)))]
        if verb in ("plan", "") and pick.random() < 0.5:
            words.insert(0, "module=" + pick.choice(("hmha", "hmha,acmix", "sta", "mine")))
        if verb == "" and pick.random() < 0.5:
            words.append("-m")
        if verb in ("status", "report", "latency") and pick.random() < 0.6:
            words = [pick.choice(("mine", "nosuch", "..", "", "root=multirun", "root=", "root=data", *words))]
            words += [
                pick.choice((*FLAGS, "strict=1", "resamples=x", "latency.batch=0", "device=x", "latency.nosuch=1"))
            ]
        if pick.random() < 0.02:
            words += self._many()
        line = Line([verb, *words] if verb else words)
        return self._odd(line) if pick.random() < 0.08 else line

    def _word(self) -> str:
        pick = self._random
        kind = pick.random()
        if kind < 0.45:
            key = pick.choice(self._names)
            own = self._keys[key]
            word = f"{key}={pick.choice(own if own and pick.random() < 0.6 else VALUES)}"
        elif kind < 0.7:
            word = self._choice()
        elif kind < 0.82:
            word = pick.choice(FLAGS)
        else:
            word = pick.choice(WORDS)
        if pick.random() < 0.12:
            word = pick.choice(("+", "++", "~", "+~", "=", "-", "--")) + word
        return self._mutated(word) if pick.random() < 0.2 else word

    def _choice(self) -> str:
        pick = self._random
        group = pick.choice(GROUPS)
        kind = pick.random()
        if kind < 0.4:
            return f"{group}={pick.choice((*OPTIONS[group], *BROKEN))}"
        if kind < 0.6:
            return f"{group}={','.join(pick.choices((*OPTIONS[group], *VALUES), k=2))}"
        if kind < 0.7:
            return f"{group}=[{','.join(pick.choices(OPTIONS[group], k=2))}]"
        return f"{group}={pick.choice(VALUES)}"

    def _mutated(self, word: str) -> str:
        pick = self._random
        for _ in range(pick.choice((1, 1, 2, 4))):
            place = pick.randrange(len(word) + 1)
            end = place + pick.choice((0, 0, 1, 3))
            word = word[:place] + pick.choice((pick.choice(SPECIAL), "", word[place:end] * 2)) + word[end:]
        return word.replace("\x00", "") if pick.random() < 0.9 else word

    def _many(self) -> list[str]:
        return self._random.choice(
            (
                [f"train.epochs={number}" for number in range(300)],
                ["x" * 100_000],
                ["sweep=" + "y" * 100_000],
                ["train.freeze=" + "[" * 500],
                ["seed=" + ",".join(map(str, range(2000)))],
                [f"x{number}=1" for number in range(300)],
            )
        )

    def _odd(self, line: Line) -> Line:
        pick = self._random
        oddity = pick.choice(("gone", "full", "closed", "", ""))
        environment = pick.choice(
            (
                *(
                    {},
                    {"COLUMNS": "1"},
                    {"COLUMNS": "x"},
                ),
                *(
                    {"ABLATE_LOG": "loud"},
                    {"ABLATE_CACHE": "/proc"},
                    {"ABLATE_CACHE": "/proc/x"},
                    {"ABLATE_CACHE": "data/data.yaml"},
                    {"HOME": "/nosuch"},
                ),
                *(
                    {"TERM": "dumb"},
                    {"LC_ALL": "C"},
                    {"TMPDIR": "/nosuch"},
                    {"OMP_NUM_THREADS": "x"},
                    {"NO_COLOR": "1"},
                ),
                *(
                    {"CUDA_VISIBLE_DEVICES": "x"},
                    {"FORCE_COLOR": "1"},
                    {"PYTHONIOENCODING": "ascii"},
                    {"HYDRA_FULL_ERROR": "0"},
                ),
            )
        )
        return Line(line.words, environment, oddity)


def furnish(folder: Path) -> None:
    """Fill a folder with a data set, a module, odd option files and other odd files, and a sweep."""
    from PIL import Image

    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / "data" / kind / split).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (64, 64), (40 * number, 90, 20)).save(folder / f"data/images/{split}/{number}.png")
            (folder / f"data/labels/{split}/{number}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    text = f"path: {folder}/data\ntrain: images/train\nval: images/val\nnames: {{0: thing}}\n"
    (folder / "data/data.yaml").write_text(text)
    for name in ("set[b].yaml", "a,b=c.yaml", "my data (v2).yaml", "${x}.yaml"):
        (folder / name).write_text(text)
    (folder / "odd").mkdir()
    (folder / "odd/list.yaml").write_text("- 1\n- 2\n")
    (folder / "odd/huge.yaml").write_text(text + "x: " + "a" * 3_000_000 + "\n")
    (folder / "odd.pt").write_bytes(b"no checkpoint")
    (folder / "readonly").mkdir()
    (folder / "readonly").chmod(0o500)
    os.mkfifo(folder / "fifo")
    (folder / "mine.py").write_text(
        "import torch\n\nclass Mine(torch.nn.Module):\n"
        "    def __init__(self, channels: int, size: int = 3) -> None:\n        super().__init__()\n"
        "    def forward(self, x):\n        return x\n"
    )
    for group in GROUPS:
        _odd_options(folder / "conf" / group)
    (folder / "conf/module/mine.yaml").write_text("name: mine\n_target_: mine.Mine\ninsertion: head\nsize: 3\n")
    sweep = folder / "multirun/sweeps/mine"
    sweep.mkdir(parents=True)
    (sweep / "sweep.json").write_text("{}")


def _odd_options(folder: Path) -> None:
    folder.mkdir(parents=True)
    contents: Mapping[str, bytes] = {
        "notutf8": b"name: \xff\xfe\n",
        "tabs": b"name: tabs\n\tx: 1\n",
        "twice": b"name: twice\nname: twice\n",
        "list": b"- name: list\n",
        "empty": b"",
        "number": b"5\n",
        "text": b"only text\n",
        "bytes": bytes(range(256)),
        "secret": b"name: secret\n",
        "bomb": b"a: &a [x, x]\n"
        + b"".join(b"%c: &%c [*%c, *%c, *%c, *%c]\n" % (98 + i, 98 + i, *[97 + i] * 4) for i in range(20)),
    }
    for name, content in contents.items():
        (folder / f"{name}.yaml").write_bytes(content)
    (folder / "secret.yaml").chmod(0)
    (folder / "folder.yaml").mkdir()
    os.mkfifo(folder / "pipe.yaml")


def run(line: Line, template: Path, folder: Path, stop: bool = True) -> End:
    """Run a command line in a fresh copy of a folder; return how it ended."""
    shutil.copytree(template, folder, copy_function=shutil.copy, ignore=_special)
    for path in template.rglob("*"):
        if path.is_fifo():
            os.mkfifo(folder / path.relative_to(template))
    files = [folder.with_suffix(suffix) for suffix in (".out", ".err", ".torch")]
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _child(line, folder, files, stop)
    code = _wait(child)
    seconds = time.monotonic() - started
    out, err = (path.read_text(errors="backslashreplace") if path.exists() else "" for path in files[:2])
    return End(line, code, round(seconds, 2), out[:3000], err[:6000], files[2].exists())


def _special(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(folder) / name).is_fifo()]


def _wait(child: int) -> int:
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -signal.SIGKILL


def _child(line: Line, folder: Path, files: Sequence[Path], stop: bool) -> NoReturn:
    code = 98
    try:
        os.setsid()
        os.chdir(folder)
        out, err = (os.open(path, os.O_CREAT | os.O_WRONLY) for path in files[:2])
        if line.oddity == "full":
            out = os.open("/dev/full", os.O_WRONLY)
        os.dup2(out, 1)
        os.dup2(err, 2)
        if line.oddity == "closed":
            reader, writer = os.pipe()
            os.close(reader)
            os.dup2(writer, 1)
        if line.oddity == "gone":
            shutil.rmtree(folder)
        os.environ.update(line.environment)
        tempfile.tempdir = None
        _watch(files[2], stop)
        from ablate.__main__ import main

        code = main(line.words)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def _watch(note: Path, stop: bool) -> None:
    """Note where torch is imported or a process is started that may do so; if asked, end there."""

    def reached(*_: Any, **__: Any) -> None:
        note.touch()
        if stop:
            os._exit(ACCEPTED)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if (event == "import" and arguments[0] == "torch") or (
            event == "subprocess.Popen" and "python" in str(arguments[0])
        ):
            reached()

    sys.addaudithook(hook)
    import multiprocessing.util

    spawn = multiprocessing.util.spawnv_passfds

    def spawned(*arguments: Any) -> int:
        reached()
        return spawn(*arguments)

    multiprocessing.util.spawnv_passfds = spawned


def warm_up() -> None:
    """Import what every line needs, once."""
    os.environ["HYDRA_FULL_ERROR"] = "1"
    import hydra.main  # noqa: F401
    import rich.console  # noqa: F401
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.plugins import Plugins

    import ablate.cli.hydra_bridge
    import ablate.cli.verbs
    import ablate.execution.make_request
    import ablate.execution.plan_table
    import ablate.execution.run_sweep
    import ablate.preflight.networks
    import ablate.report.write  # noqa: F401

    Plugins.instance()
    OverridesParser.create().parse_override("a=1")


def run_lines(lines: Sequence[Line], each: Callable[[End], None], stop: bool = True) -> None:
    """Run command lines one after the other."""
    with tempfile.TemporaryDirectory(prefix="ablate-fuzz-") as place:
        template = Path(place) / "template"
        template.mkdir()
        os.environ.setdefault("ABLATE_CACHE", str(Path(place) / "cache"))
        furnish(template)
        for number, line in enumerate(lines):
            folder = Path(place) / f"line{number}"
            each(run(line, template, folder, stop))
            for path in Path(place).glob(f"line{number}*"):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def kind_of(message: str, line: Line) -> str:
    """Return a message without what is particular to its line, so that messages of a kind are equal."""
    for word in sorted(line.words, key=len, reverse=True):
        key, _, value = word.lstrip("+~").partition("=")
        for part in (word, value, key):
            if len(part) > 1:
                message = message.replace(part, "W")
    return re.sub(r"\d+", "0", re.sub(r"valid: .*", "valid", message))[:160]


def main() -> int:
    """Run random command lines and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--out", type=Path, help="a line of JSON for each command line")
    parser.add_argument("--through", action="store_true", help="do not stop where networks would be built")
    parsed = parser.parse_args()
    warm_up()
    ends: list[End] = []

    def each(end: End) -> None:
        ends.append(end)
        if parsed.out:
            with parsed.out.open("a") as file:
                file.write(json.dumps(asdict(end)) + "\n")
        if end.crashed or end.wordy or end.seconds > 3:
            print(end.code, f"{end.seconds} s", shlex.join(end.line.words)[:200], end.line.environment, end.line.oddity)
            print("    " + "\n    ".join([*end.said[:2], *end.said[-2:]])[:1200])

    run_lines(
        [line for line, _ in zip(Lines(parsed.seed), range(parsed.count), strict=False)], each, not parsed.through
    )
    codes = Counter(end.code for end in ends)
    slowest = max(ends, key=lambda end: end.seconds)
    samples = {kind_of(" ".join(end.said), end.line): end for end in ends if end.code == 2}
    print(f"{len(ends)} lines, seed {parsed.seed}: exit codes {dict(codes)}")
    print(f"tracebacks or unforeseen: {sum(end.crashed for end in ends)}")
    print(f"errors not told in one line: {sum(end.wordy for end in ends)}")
    print(f"torch before an error: {sum(end.torch for end in ends if end.code == 2)}")
    print(f"slowest: {slowest.seconds} s: {shlex.join(slowest.line.words)[:200]}")
    print(f"distinct messages: {len(samples)}")
    return int(any(end.crashed or end.wordy or (end.torch and end.code == 2) for end in ends))


if __name__ == "__main__":
    sys.exit(main())
