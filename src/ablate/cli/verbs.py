"""The commands beside running trials: plan, status, report, latency, test, verify, catalogue, import, data, ui."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ablate.cli.ports import check_port, port
from ablate.cli.verb_parser import VerbParser
from ablate.errors import ConfigError, nearest
from ablate.storage.confined import refuse_links
from ablate.storage.layout import OutputFolder, SweepFolder

if TYPE_CHECKING:
    from rich.console import Console


def plan(words: Sequence[str]) -> int:
    """Show what a command would run; start nothing."""
    from ablate.cli.flags import is_mode
    from ablate.cli.hydra_bridge import run
    from ablate.cli.messages import fail

    for word in words:
        flag = word.partition("=")[0]
        if is_mode(flag) and flag not in ("-m", "--multirun"):
            return fail(f"plan: {flag} shows something else than a plan; leave out one of them")
    overrides = [word for word in words if word not in ("--json", "--measure", "-m", "--multirun")]
    return run([*overrides, "--multirun"], plan=True, as_json="--json" in words, measure="--measure" in words)


def status(words: Sequence[str]) -> int:
    """Show which trials of a sweep are done, running, failed."""
    return _with_sweep("status", words, _show_status)


def report(words: Sequence[str]) -> int:
    """Rebuild a sweep's table, figures, notebook and pages from what is recorded: strict=true, resamples=2000, ..."""
    return _with_sweep("report", words, _write_report)


def latency(words: Sequence[str]) -> int:
    """Measure the latency of a sweep's variants again."""
    return _with_sweep("latency", words, _measure)


def test(words: Sequence[str]) -> int:
    """Measure a sweep's checkpoints on the sealed test split, once; compare them there."""
    return _with_sweep("test", words, _open_test)


def verify(words: Sequence[str]) -> int:
    """Check every module against its authors' golden values and the conformance suite."""

    def body() -> int:
        parser = VerbParser(prog="ablate verify", description=verify.__doc__)
        parser.add_argument(
            "--golden",
            type=Path,
            help="a folder of golden cases (.npz), with its subfolders; without it the conformance suite only",
        )
        parser.add_argument("modules", nargs="*", metavar="MODULE", help="names of modules; without any, all")
        parsed = parser.parse(words)
        from ablate.verifying.verify import run_verify

        return run_verify(parsed.golden, parsed.modules)

    return _guarded(body)


def catalogue(words: Sequence[str]) -> int:
    """List the modules, heads and losses that can be ablated: kinds, papers, and what each costs in YOLO26n."""

    def body() -> int:
        parser = VerbParser(prog="ablate catalogue", description=catalogue.__doc__)
        parser.add_argument(
            "words",
            nargs="*",
            metavar="NAME | FILTER",
            help="names (* stands for anything), and family=attention,mixer kind=downsample point=up; none: everything",
        )
        parser.add_argument("--figures", action="store_true", help="parameters and GFLOPs; counted once and kept")
        parser.add_argument(
            "--measure", action="store_true", help="also measure latencies on this machine (some seconds a module)"
        )
        parser.add_argument("--json", action="store_true", help="print JSON to stdout")
        parsed = parser.parse(words)
        from ablate.catalogue.show_catalogue import show_catalogue

        return show_catalogue(parsed.words, figures=parsed.figures, measure=parsed.measure, as_json=parsed.json)

    return _guarded(body)


def import_network(words: Sequence[str]) -> int:
    """Make a variant of a modified network file: what it is made of, and its weights by alignment."""

    def body() -> int:
        parser = VerbParser(prog="ablate import", description=import_network.__doc__)
        parser.add_argument("file", type=Path, help="a network's yaml, such as my-yolo26.yaml")
        parser.add_argument("--code", type=Path, help="Python file, package or folder that defines its classes")
        parser.add_argument("--stock", help="its stock ancestor, such as yolo26; found where it is left out")
        parser.add_argument("--scale", help="n, s, m, l or x; that of the file's name where it is left out")
        parser.add_argument("--out", type=Path, help="the file to write; <name>.ablate.yaml where it is left out")
        parser.add_argument("--json", action="store_true", help="print JSON to stdout")
        parsed = parser.parse(words)
        from ablate.importing.import_command import ImportRequest, run_import

        return run_import(
            ImportRequest(parsed.file, parsed.code, parsed.stock, parsed.scale, parsed.out, as_json=parsed.json)
        )

    return _guarded(body)


def data(words: Sequence[str]) -> int:
    """Audit a data set: near duplicates, leaks between splits, recordings, labels that disagree."""

    def body() -> int:
        if not words or words[0] != "audit":
            there = f"'{words[0]}': no such command of data; " if words else ""
            raise ConfigError(f"data: {there}valid: data audit data=<name>, data audit <data file>")
        parser = VerbParser(prog="ablate data audit", description=data.__doc__)
        parser.add_argument("words", nargs="*", metavar="data=<name> | FILE", help="data.<key>=<value> root=<folder>")
        parser.add_argument("--json", action="store_true", help="print JSON to stdout")
        parsed = parser.parse(words[1:])
        from ablate.cli.data_command import audit_request

        root = _root([word for word in parsed.words if word.startswith("root=")])
        request = audit_request([word for word in parsed.words if not word.startswith("root=")], root)
        from ablate.audit.audit_command import run_audit

        return run_audit(request.data, request.root, as_json=parsed.json)

    return _guarded(body)


def ui(words: Sequence[str]) -> int:
    """Serve the MLflow UI on 127.0.0.1."""

    def body() -> int:
        parser = VerbParser(prog="ablate ui", description=ui.__doc__)
        parser.add_argument("overrides", nargs="*", help="root=<folder>")
        parser.add_argument("--port", type=port, default=5000, help="1 to 65535; 5000 where it is left out")
        parsed = parser.parse(words)
        root = _root(parsed.overrides)
        database = OutputFolder(root).database
        refuse_links(OutputFolder(root).written_in_place)
        if not database.is_file():
            raise ConfigError(f"{database} does not exist: no trial has been recorded here yet")
        check_port(parsed.port)
        from ablate.records.store_address import artifacts_uri, tracking_uri
        from ablate.settings.environment import prepare

        prepare()
        page = f"http://127.0.0.1:{parsed.port}/#/experiments/{_experiment(root)}/runs?workflowType=machine_learning"
        print(f"open {page}  (stop with Ctrl-C)", flush=True)  # noqa: T201
        uri = tracking_uri(root, None)
        command = [sys.executable, "-P", "-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", "127.0.0.1"]
        command += ["--port", str(parsed.port), "--default-artifact-root", artifacts_uri(root)]
        empty = tempfile.TemporaryDirectory(prefix="ablate-ui-")  # its server imports from the folder that it runs in
        # A group of its own, for MLflow starts workers, which must not outlive us.
        server = subprocess.Popen(command, cwd=empty.name, start_new_session=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        try:
            return server.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            server.wait()
            empty.cleanup()

    return _guarded(body)


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "plan": plan,
    "status": status,
    "report": report,
    "latency": latency,
    "test": test,
    "verify": verify,
    "catalogue": catalogue,
    "import": import_network,
    "data": data,
    "ui": ui,
}


def find_sweep(root: Path, name: str | None) -> Path:
    """Return a sweep's folder: by name or path, or the one that was written last.

    Raises:
        ConfigError: No sweep exists, or none of this name; or its folder is a link.
    """
    if name is not None and not name.strip():
        raise ConfigError("the name of the sweep is empty")
    output = OutputFolder(root)
    folder = output.sweeps
    manifests = sorted((sweep.manifest for sweep in output.sweep_folders()), key=lambda path: path.stat().st_mtime)
    names = [path.parent.name for path in manifests]
    if name in names:
        return folder / name
    with suppress(OSError):  # such as a name that is too long for a file's
        if name is not None and os.sep not in name:
            refuse_links([folder / name])
        if name is not None and SweepFolder(Path(name)).manifest.is_file():
            return Path(name).absolute()
    if not manifests and any(output.trial_folders()):
        raise ConfigError(
            f"no sweep in {folder} yet: there are trials only, such as the short ones of tune= before a sweep"
        )
    if not manifests:
        raise ConfigError(f"no sweep in {folder} yet: run one first, for example python -m ablate module=hmha -m")
    if name is None:
        return manifests[-1].parent
    raise ConfigError(f"sweep '{name}' does not exist in {folder}. {nearest(name, names)}there are: {', '.join(names)}")


def _with_sweep(verb: str, words: Sequence[str], body: Callable[[Path, argparse.Namespace, Console], int]) -> int:
    def run() -> int:
        parser = VerbParser(prog=f"ablate {verb}", description=VERBS[verb].__doc__)
        parser.add_argument("sweep", nargs="?", help="name or folder of a sweep; the last one where it is left out")
        more = {"latency": " latency.<field>=<value> device=<device>", "test": " again=true device=<device>"}.get(
            verb, ""
        )
        parser.add_argument("overrides", nargs="*", help=f"root=<folder>{more}")
        forms = parser.add_mutually_exclusive_group()
        forms.add_argument("--json", action="store_true", help="print JSON to stdout")
        if verb == "status":
            forms.add_argument("--watch", action="store_true", help="look again every two seconds until all is done")
            parser.add_argument("--all", action="store_true", help="a line for each trial of a large sweep too")
        parsed = parser.parse(words)
        if parsed.sweep and "=" in parsed.sweep and not _is_sweep(parsed.sweep, parsed.overrides):
            parsed.overrides.insert(0, parsed.sweep)
            parsed.sweep = None
        if verb == "report":
            from ablate.cli.report_command import report_options

            parsed.report = report_options([word for word in parsed.overrides if not word.startswith("root=")])
        if verb == "latency":
            from ablate.cli.latency_words import latency_words

            parsed.latency = latency_words([word for word in parsed.overrides if not word.startswith("root=")])
        if verb == "test":
            from ablate.cli.test_words import test_options

            parsed.test = test_options([word for word in parsed.overrides if not word.startswith("root=")])
        if verb in ("report", "latency", "test"):
            parsed.overrides = [word for word in parsed.overrides if word.startswith("root=")]
        directory = find_sweep(_root(parsed.overrides), parsed.sweep)
        from ablate.console import Terminal

        return body(directory, parsed, Terminal(stderr=parsed.json))

    return _guarded(run)


def _is_sweep(name: str, overrides: Sequence[str]) -> bool:
    """Tell whether a word with an equals sign is the name of a sweep, which may have one."""
    root = _root([word for word in overrides if word.startswith("root=")])
    return os.sep not in name and name in [folder.path.name for folder in OutputFolder(root).sweep_folders()]


def _show_status(directory: Path, parsed: argparse.Namespace, console: Console) -> int:
    from ablate.monitor.status import show_status

    return show_status(directory, console, as_json=parsed.json, watch=parsed.watch, every=parsed.all)


def _write_report(directory: Path, parsed: argparse.Namespace, console: Console) -> int:
    from ablate.cli.report_command import make_report

    return make_report(directory, parsed.report, console, as_json=parsed.json)


def _measure(directory: Path, parsed: argparse.Namespace, console: Console) -> int:
    import json

    from ablate.cli.latency_words import LatencyWords, recorded_latency
    from ablate.cli.report_command import ReportOptions, make_report
    from ablate.latency.sweep_latency import measure_sweep
    from ablate.records.json_struct import to_json
    from ablate.settings.validation import check_latency

    options: LatencyWords = parsed.latency
    latency = replace(recorded_latency(directory), **options.values)
    check_latency(latency)
    report = measure_sweep(directory, latency, console, device=options.device, again=True, trust=options.trust)
    if report is None:
        raise ConfigError(f"sweep '{directory.name}' has no finished trial whose latency could be measured")
    if parsed.json:
        print(json.dumps(to_json(report)))  # noqa: T201
    return make_report(directory, ReportOptions(), console)


def _open_test(directory: Path, parsed: argparse.Namespace, console: Console) -> int:
    from ablate.cli.report_command import ReportOptions, make_report
    from ablate.execution.open_test_split import open_test_split

    open_test_split(directory, parsed.test, console)
    return make_report(directory, ReportOptions(), console, as_json=parsed.json)


def _experiment(root: Path) -> str:
    """Return the id of the experiment that was written to last; a moved store first learns its place."""
    import sqlite3

    from ablate.records.store_address import own_database
    from ablate.tracking.relocating import last_experiment, relocate
    from ablate.tracking.run_inputs import one_at_a_time

    try:
        # Who may only read has to take the places as they are.
        with suppress(PermissionError, sqlite3.OperationalError), one_at_a_time(root):
            relocate(root)
        return last_experiment(own_database(root))
    except sqlite3.Error as error:
        raise ConfigError(f"{root}/mlflow.db is not MLflow's store: {error}") from error


def _root(overrides: Sequence[str]) -> Path:
    root = Path("multirun")
    for override in overrides:
        key, sign, value = override.partition("=")
        if key != "root" or not sign:
            raise ConfigError(f"'{override}': only root=<folder> is understood here")
        if not value.strip():
            raise ConfigError("root=: a folder is needed")
        root = Path(_without_quotes(value))
    return root


def _without_quotes(text: str) -> str:
    """Remove the quotes that Hydra needs around a path with special characters, unless a folder's name has them."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" and not Path(text).exists():
        return text[1:-1].replace(f"\\{text[0]}", text[0]).replace("\\\\", "\\")
    return text


def _guarded(body: Callable[[], int]) -> int:
    from ablate.cli.messages import fail
    from ablate.data.data_errors import DataError

    try:
        return body()
    except (ConfigError, DataError, FileNotFoundError) as error:
        return fail(str(error))
    except KeyboardInterrupt:
        return 130
