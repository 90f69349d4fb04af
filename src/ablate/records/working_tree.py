"""The commit of the working folder's repository, and how its files differ from it.

The repository may be a stranger's. What its configuration names (`core.fsmonitor`, filters, drivers and pagers of
diffs, hooks) does not run, because git never reads it: a repository of our own is made for a moment, with the commit,
the index and the objects of theirs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

from ablate.records.realised import Git

SECONDS = 20.0  # for each call of git
MOST_BYTES = 16 * 2**20  # of a diff that is kept
_SMALL = 2**20  # bytes of a file in which a commit is looked up
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# What tells how files are written, from the repository's configuration: nothing of it is a command.
_HARMLESS = re.compile(
    r"^\s*(filemode|ignorecase|symlinks|precomposeunicode|autocrlf)\s*=\s*(true|false|input)\s*$", re.IGNORECASE
)
# Names of files and folders, in lower case, that hold secrets as a rule.
SECRETS = (
    ".env*", "*.env", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.gpg", "*.asc", "*.ppk",
    "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*credential*", "*secret*", "*passw*", "*token*", ".netrc",
    ".pgpass", ".pypirc", ".npmrc", ".htpasswd", ".aws", ".ssh", ".kube", ".docker", ".azure", ".gnupg", "*.tfstate*",
    "*.tfvars", "service[-_]account*.json",
)  # fmt: skip
MOST_FILES = 1_000  # of which the difference is kept


def git_state(diff_file: Path, folder: Path | None = None) -> Git:
    """Return the commit of a folder's repository; keep what differs from it in a file.

    Left out of the file are untracked files, files that git ignores, and those whose names are of secrets (`SECRETS`).

    Args:
        diff_file: Where the difference goes; not written where there is none.
        folder: A folder in the repository's working tree; the working folder by default.
    """
    repository, program = _find((folder or Path.cwd()).resolve()), shutil.which("git")
    commit = None if repository is None else _commit(repository[1])
    if repository is None or commit is None:
        return Git()
    dirty = None
    with suppress(OSError, subprocess.SubprocessError), tempfile.TemporaryDirectory(prefix="ablate-git-") as scratch:
        if program is not None and os.path.isabs(program):  # noqa: PTH117 - a git of the working folder is none
            git = _Git(program, repository[0], Path(scratch))
            git.copy(repository[1], commit)
            changed = git.names("diff", *PLAIN, "--name-only", "-z", "HEAD")
            dirty = bool(changed)
            ignored = (
                set(git.names("ls-files", "-z", "--cached", "--ignored", "--exclude-standard")) if dirty else set()
            )
            shown = [name for name in changed if name not in ignored and not _is_secret(name)][:MOST_FILES]
            if shown:
                difference = git.run("diff", *PLAIN, "HEAD", "--", *(f":(top,literal){name}" for name in shown))
                diff_file.write_bytes(difference)  # bytes: the user's files may be in any encoding
    return Git(commit=commit, dirty=dirty)


PLAIN = ("--no-ext-diff", "--no-textconv", "--no-renames", "--no-color", "--ignore-submodules=all")
_OFF = ("core.fsmonitor=false", "core.hooksPath=/dev/null", "core.untrackedCache=false", "core.pager=cat")


class _Git:
    """A repository of ours, with what is needed of another one to compare a working tree with its commit.

    Args:
        program: Absolute path of git.
        top: The working tree.
        folder: An empty folder.
    """

    def __init__(self, program: str, top: Path, folder: Path) -> None:
        self._folder = folder
        self._words = [program, f"--git-dir={folder}", f"--work-tree={top}", "--no-pager"]
        self._words += [word for setting in _OFF for word in ("-c", setting)]
        self._top = top
        outside = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        self._environment = {**outside, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1"}

    def copy(self, original: Path, commit: str) -> None:
        """Take over a repository's commit, index and patterns of ignored files; its objects are read where they are.

        Raises:
            OSError: A file cannot be read or written.
        """
        shared = _shared(original)
        for name in ("refs", "objects", "info"):
            (self._folder / name).mkdir()
        (self._folder / "HEAD").write_text(f"{commit}\n", encoding="ascii")
        lines = [line for line in _text(shared / "config").splitlines() if _HARMLESS.match(line)]
        kind = ["repositoryformatversion = 1", *lines] if len(commit) == 64 else ["repositoryformatversion = 0", *lines]
        object_format = ["[extensions]", "objectformat = sha256"] if len(commit) == 64 else []
        (self._folder / "config").write_text("\n".join(["[core]", *kind, *object_format, ""]), encoding="utf-8")
        (self._folder / "info" / "exclude").write_text(_text(shared / "info" / "exclude"), encoding="utf-8")
        for index in (original / "index", *original.glob("sharedindex.*")):
            if index.is_file() and not index.is_symlink():
                shutil.copy2(index, self._folder)  # with its time, by which git knows which files to read again
        if (shared / "objects").is_symlink():
            raise OSError(f"{shared / 'objects'} is a link")
        self._environment["GIT_OBJECT_DIRECTORY"] = str(shared / "objects")

    def names(self, *words: str) -> list[str]:
        """Return the names of files that git lists."""
        return [os.fsdecode(name) for name in self.run(*words).split(b"\0") if name]

    def run(self, *words: str) -> bytes:
        """Return what git prints, up to a size.

        Raises:
            OSError, subprocess.SubprocessError: It cannot be run, fails, or takes too long.
        """
        with tempfile.TemporaryFile() as output:
            subprocess.run(
                [*self._words, *words],
                cwd=self._top,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
                timeout=SECONDS,
                check=True,
            )
            output.seek(0)
            return output.read(MOST_BYTES)


def _find(folder: Path) -> tuple[Path, Path] | None:
    """Return the working tree that a folder is in and the folder of its repository; None where there is none.

    A link, and a file `.git`, may lead to any repository. A file counts where that repository names it in turn, as for
    a further working tree, or lies in that of a folder above, as for a submodule.
    """
    for top in (folder, *folder.parents):
        mark = top / ".git"
        if mark.is_symlink():
            return None
        if mark.is_dir():
            return top, mark
        if mark.is_file():
            named = re.fullmatch(r"gitdir: (.+)\n?", _text(mark))
            theirs = (top / named[1]).resolve() if named else None
            if theirs is None or not theirs.is_dir():
                return None
            back = _text(theirs / "gitdir").strip()
            is_further = theirs.parent.name == "worktrees" and bool(back) and Path(back).resolve() == mark
            modules = [(above / ".git" / "modules").resolve() for above in top.parents]
            return (top, theirs) if is_further or any(theirs.is_relative_to(place) for place in modules) else None
    return None


def _commit(repository: Path) -> str | None:
    """Return the commit that a repository's HEAD stands on; None where there is none yet, or that is not known."""
    head = _text(repository / "HEAD").strip()
    if not head.startswith("ref: "):
        return head if _COMMIT.fullmatch(head) else None
    name, shared = head.removeprefix("ref: "), _shared(repository)
    if not name.startswith("refs/") or ".." in name.split("/"):
        return None
    for place in (repository, shared):
        commit = _text(place / name).strip()
        if _COMMIT.fullmatch(commit):
            return commit
    lines = (line.split() for line in _text(shared / "packed-refs", MOST_BYTES).splitlines())
    return next((words[0] for words in lines if words[1:] == [name] and _COMMIT.fullmatch(words[0])), None)


def _shared(repository: Path) -> Path:
    """Return where a repository keeps what its working trees share."""
    return repository.parents[1] if repository.parent.name == "worktrees" else repository


def _text(path: Path, most: int = _SMALL) -> str:
    """Return the text of an ordinary file, no link, of at most so many bytes; empty where there is none."""
    try:
        if path.is_file() and path.resolve() == path and path.stat().st_size <= most:
            return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        pass
    return ""


def _is_secret(name: str) -> bool:
    """Tell whether a file, or a folder that it is in, has the name of a secret."""
    return any(fnmatchcase(part.lower(), pattern) for part in name.split("/") for pattern in SECRETS)
