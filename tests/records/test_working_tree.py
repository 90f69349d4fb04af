"""What is recorded of a repository: its commit and what differs from it; nothing that it configures runs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ablate.records.realised import Git
from ablate.records.working_tree import git_state

RUNS = "touch {folder}/ran.txt; cat"


def git(folder: Path, *words: str) -> str:
    names = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")
    return subprocess.check_output(["git", *names, *words], cwd=folder, text=True, stderr=subprocess.DEVNULL).strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a changed file, in which we stand."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init")
    (folder / "model.py").write_text("before = 1\n", encoding="utf-8")
    git(folder, "add", "-A")
    git(folder, "commit", "-m", "first")
    (folder / "model.py").write_text("after = 22\n", encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder


def seen(tmp_path: Path, folder: Path | None = None) -> tuple[Git, str]:
    """What is recorded of a folder's repository, and the difference that is kept."""
    file = tmp_path / "git.diff"
    file.unlink(missing_ok=True)
    state = git_state(file, folder)
    return state, file.read_text(encoding="utf-8") if file.exists() else ""


def test_commit_and_difference_are_recorded(repository: Path, tmp_path: Path) -> None:
    (repository / "below").mkdir()
    for folder in (repository, repository / "below"):
        state, diff = seen(tmp_path, folder)

        assert state == Git(commit=git(repository, "rev-parse", "HEAD"), dirty=True)
        assert "-before = 1\n+after = 22\n" in diff
    git(repository, "pack-refs", "--all")
    assert seen(tmp_path)[0].commit == state.commit
    git(repository, "commit", "-am", "second")
    assert seen(tmp_path) == (Git(commit=git(repository, "rev-parse", "HEAD"), dirty=False), "")


def test_where_there_is_no_commit_nothing_is_recorded(tmp_path: Path) -> None:
    assert seen(tmp_path, tmp_path) == (Git(), "")
    git(tmp_path, "init")
    assert seen(tmp_path, tmp_path) == (Git(), "")


def configured(folder: Path, kind: str) -> None:
    """Let a repository name a command of a kind."""
    command = RUNS.format(folder=folder.parent)
    script = folder / ".git" / "run.sh"
    script.write_text(f"#!/bin/sh\n{command}\n", encoding="utf-8")
    script.chmod(0o755)
    if kind == "hooks":
        for name in ("post-index-change", "pre-commit", "post-checkout", "fsmonitor-watchman", "reference-transaction"):
            (folder / ".git" / "hooks" / name).write_bytes(script.read_bytes())
            (folder / ".git" / "hooks" / name).chmod(0o755)
        os.utime(folder / ".git" / "index", (1, 1))  # git looks at each file again, and would write the index
        return
    attribute = {"textconv": "* diff=x", "driver": "* diff=x", "filter": "* filter=x", "process": "* filter=x"}
    if kind in attribute:
        (folder / ".gitattributes").write_text(f"{attribute[kind]}\n", encoding="utf-8")
        (folder / ".git" / "info" / "attributes").write_text(f"{attribute[kind]}\n", encoding="utf-8")
    for key in {
        "fsmonitor": ["core.fsmonitor"],
        "pager": ["core.pager", "pager.diff", "pager.rev-parse"],
        "external": ["diff.external"],
        "driver": ["diff.x.command"],
        "textconv": ["diff.x.textconv"],
        "filter": ["filter.x.clean", "filter.x.smudge"],
        "process": ["filter.x.process"],
        "alias": ["alias.diff", "alias.rev-parse"],
        "ssh": ["core.sshCommand", "core.gitProxy", "core.askPass", "core.editor", "credential.helper", "gpg.program"],
        "hooks elsewhere": ["core.hooksPath"],
        "alternates": ["core.alternateRefsCommand"],
    }[kind]:
        value = f"!{script}" if kind == "alias" else str(script)
        git(folder, "config", key, str(folder / ".git") if kind == "hooks elsewhere" else value)


KINDS = ("fsmonitor", "pager", "external", "driver", "textconv", "filter", "process", "alias", "ssh", "hooks",
         "hooks elsewhere", "alternates")  # fmt: skip


@pytest.mark.security(
    "Git repository",
    "Nothing that its configuration names runs: monitors, filters, drivers of diffs, pagers, hooks, helpers.",
)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_a_repository_configures_runs(repository: Path, tmp_path: Path, kind: str) -> None:
    configured(repository, kind)
    (repository / "model.py").touch()
    (tmp_path / "ran.txt").unlink(missing_ok=True)
    state, diff = seen(tmp_path)

    assert not (tmp_path / "ran.txt").exists()
    assert state.dirty
    assert "+after = 22" in diff


@pytest.mark.parametrize("kind", ["fsmonitor", "external", "filter"])
def test_git_itself_would_run_it(repository: Path, tmp_path: Path, kind: str) -> None:
    configured(repository, kind)
    (repository / "model.py").touch()
    (tmp_path / "ran.txt").unlink(missing_ok=True)
    subprocess.run(["git", "diff", "HEAD"], cwd=repository, capture_output=True, check=False)
    assert (tmp_path / "ran.txt").exists(), "else the test above shows nothing"


@pytest.mark.security(
    "Git repository",
    "A configuration that names another working tree or another file, such as a pipe, is not followed.",
)
def test_its_configuration_leads_nowhere(repository: Path, tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir()
    (private / "model.py").write_text("secret\n", encoding="utf-8")
    git(repository, "config", "core.worktree", str(private))
    os.mkfifo(tmp_path / "pipe")
    git(repository, "config", "include.path", str(tmp_path / "pipe"))
    _, diff = seen(tmp_path)

    assert "secret" not in diff
    assert "+after = 22" in diff


@pytest.mark.security("Git repository", "A `.git` that leads to another repository of yours shows nothing of it.")
@pytest.mark.parametrize("way", ["a file", "a link", "a common folder", "links within", "a folder without a mark"])
def test_another_repository_is_not_shown(repository: Path, tmp_path: Path, way: str) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    own = repository / ".git"
    if way == "a file":
        (theirs / ".git").write_text(f"gitdir: {own}\n", encoding="utf-8")
    elif way == "a link":
        (theirs / ".git").symlink_to(own)
    elif way == "a common folder":
        (theirs / ".git").mkdir()
        (theirs / ".git" / "HEAD").write_text("ref: refs/heads/main\n", encoding="utf-8")
        (theirs / ".git" / "commondir").write_text(f"{own}\n", encoding="utf-8")
    elif way == "links within":
        (theirs / ".git" / "refs").mkdir(parents=True)
        for name in ("HEAD", "objects", "index", "refs/heads"):
            (theirs / ".git" / name).symlink_to(own / name)
    else:  # what git takes for a bare repository
        for name in ("HEAD", "objects", "refs", "config"):
            (theirs / name).symlink_to(own / name)
    assert seen(tmp_path, theirs)[1] == ""


def test_a_further_working_tree_and_a_submodule_are_their_own(repository: Path, tmp_path: Path) -> None:
    git(repository, "worktree", "add", str(tmp_path / "further"))
    (tmp_path / "further" / "model.py").write_text("further\n", encoding="utf-8")
    assert "+further" in seen(tmp_path, tmp_path / "further")[1]

    git(repository, "-c", "protocol.file.allow=always", "submodule", "add", str(tmp_path / "further"), "part")
    (repository / "part" / "model.py").write_text("part of it\n", encoding="utf-8")
    assert "+part of it" in seen(tmp_path, repository / "part")[1]


@pytest.mark.security(
    "Secrets",
    "The recorded `git diff` leaves out untracked and ignored files and those with names such as `.env` or `id_rsa`.",
)
def test_files_of_secrets_are_left_out(repository: Path, tmp_path: Path) -> None:
    names = [".env", ".env.local", "prod.env", "server.pem", "server.key", "id_rsa", "id_ed25519.pub", ".netrc"]
    names += ["credentials.json", "aws_Credentials", ".aws/config", ".ssh/config", "my_secrets.yaml", "passwords.txt"]
    names += ["API_TOKEN", "terraform.tfstate", "kept/.env/inner.txt", "ignored.py", "a'b\nc.py"]
    for name in names:
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text("first\n", encoding="utf-8")
    git(repository, "add", "-A", "--force")
    git(repository, "commit", "-m", "second")
    (repository / ".gitignore").write_text("ignored.py\n", encoding="utf-8")
    for name in names:
        (repository / name).write_text("hidden\n", encoding="utf-8")
    (repository / "untracked.py").write_text("hidden\n", encoding="utf-8")
    (repository / "model.py").write_text("shown\n", encoding="utf-8")
    state, diff = seen(tmp_path)

    assert state.dirty
    assert "+shown" in diff
    assert diff.count("+hidden") == 1, "of the file with an odd name, which is no secret's"
    git(repository, "checkout", "model.py", "a'b\nc.py")
    assert seen(tmp_path) == (Git(commit=git(repository, "rev-parse", "HEAD"), dirty=True), "")


def test_a_git_of_the_working_folder_is_not_run(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "git").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran.txt\n", encoding="utf-8")
    (repository / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f".{os.pathsep}{os.environ['PATH']}")
    assert seen(tmp_path)[0].commit is not None
    assert not (tmp_path / "ran.txt").exists()
