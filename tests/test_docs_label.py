"""The page of the labelling app is true of the app: its curl lines work, its pictures are there and small."""

import re
import shlex
import shutil
import subprocess
from threading import Thread

import pytest
import uvicorn

from accord import Completion, Prompt
from accord.feedback.app.labelwords import KEY_HELP
from accord.feedback.app.main import create_app
from accord.feedback.labeling.config import LabelConfig
from accord.recipes.labeling import access, listen
from accord.workspace import Workspace
from test_docs import DOCS, TEXT, blocks

PAGE = DOCS / "label.md"


@pytest.fixture
def app(tmp_path):
    """A workspace whose app listens, and its address."""
    workspace = Workspace.create(tmp_path / "desk")
    workspace.store.add_groups([(Prompt.from_text("Is it open?"), [Completion("Yes."), Completion("No.")])])
    config = LabelConfig(port=0)
    with listen(config) as listening:
        server = uvicorn.Server(uvicorn.Config(create_app(workspace, config), log_level="error"))
        thread = Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield workspace, f"localhost:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()
    workspace.store.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on PATH")
def test_the_curl_lines_of_the_page_work(app, tmp_path):
    workspace, address = app
    token = access(workspace, LabelConfig(), "token", "nightly", role="owner")["token"]
    lines = "\n".join(blocks(PAGE, "sh")).replace("\\\n", " ").splitlines()
    commands = [line for line in lines if line.startswith("curl ")]
    assert len(commands) == 3
    for command in commands:
        words = shlex.split(command.replace("localhost:8080", address).replace("$TOKEN", token))
        ended = subprocess.run([*words, "--silent"], cwd=tmp_path, capture_output=True, timeout=30)
        assert ended.returncode == 0, (command, ended.stdout)
    assert {prompt.text for prompt in workspace.store.prompts()} >= {"Is it open?", "May I?"}
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) > 4


def test_every_key_of_ranking_is_on_the_page():
    keys = {key for group in ("all", "rank", "always") for names, _ in KEY_HELP[group] for key in names}
    page = PAGE.read_text(encoding="utf-8")
    letters = keys - {"→", "←", "↓", "↑", "…", "Shift"}
    assert letters >= {"J", "F", "Enter", "?"}
    assert [key for key in letters if f"`{key}`" not in page] == []


def test_the_pictures_are_there_and_small():
    names = re.findall(r"\]\(figures/([\w.-]+\.png)\)", TEXT)
    assert len(names) >= 4
    assert [name for name in names if not 1_000 < (DOCS / "figures" / name).stat().st_size < 150_000] == []
