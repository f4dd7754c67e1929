"""A workspace is made once, found from anywhere inside it, and never guessed at."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import Field

from accord.config import Config
from accord.errors import ConfigError, StoreError
from accord.flags import step_configs
from accord.types import Prompt
from accord.workspace import DEFAULT_GUIDELINES, STEPS, Settings, Workspace, database_url, settings_text


class ExampleConfig(Config):
    """Settings of an example step."""

    rate: float = 1e-4
    """Peak learning rate.
    Halved at the end."""
    layers: tuple[int, ...] = (1, 2)
    """Layers that train."""
    base: str | None = None
    """Folder of a "model"."""
    strict: bool = True
    """Whether to be strict."""
    weights: dict[str, float] = Field(default_factory=lambda: {"a.b": 0.5})
    """Weight by name."""


def test_a_workspace_is_made_and_found_again(tmp_path: Path) -> None:
    made = Workspace.create(tmp_path / "desk")
    made.store.add_prompts([Prompt.from_text("hello")])
    assert {p.name for p in made.path.iterdir()} >= {
        "accord.toml",
        "guidelines.md",
        "accord.db",
        "models",
        "runs",
    }
    run = made.store.start_run("sample", {})
    assert run.path == made.runs / "sample-1"
    found = Workspace.open(run.path)
    assert found.path == made.path
    assert [p.text for p in found.store.prompts()] == ["hello"]
    assert found.section("reward") == {}
    assert found.store.verify() == []


def test_a_new_workspace_overwrites_nothing(tmp_path: Path) -> None:
    for name in ("accord.toml", "guidelines.md", "accord.db", "models", "runs"):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        (folder / name).write_text("precious")
        with pytest.raises(StoreError, match=f"{re.escape(name)} exists"):
            Workspace.create(folder)
        assert [p.name for p in folder.iterdir()] == [name]
        assert (folder / name).read_text() == "precious"


def test_settings_come_from_their_section(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path)
    file = tmp_path / "accord.toml"
    file.write_text(file.read_text().replace("[reward]", "[reward]\nepochs = 2"))
    assert Workspace.open(tmp_path).section("reward") == {"epochs": 2}
    assert workspace.section("reward") == {}
    with pytest.raises(ConfigError, match=r"no section \[rewards\]"):
        workspace.section("rewards")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("databse = 'x'", "unknown key 'databse'; did you mean 'database'"),
        ("[rewrad]", "unknown key 'rewrad'; did you mean 'reward'"),
        ("reward = 1", "reward = 1"),
        ("database = ]", "is not TOML: .*line 1"),
        ("database = 'mysql://x/y'", "sqlite or postgresql"),
        ("database = '${ACCORD_UNSET}'", "ACCORD_UNSET, which is not set"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, content: str, match: str) -> None:
    (tmp_path / "accord.toml").write_text(content)
    with pytest.raises(ConfigError, match=match):
        Workspace.open(tmp_path)


def test_what_is_missing_is_named_and_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="accord init"):
        Workspace.open(tmp_path)
    workspace = Workspace.create(tmp_path / "desk")
    (workspace.path / "guidelines.md").unlink()
    with pytest.raises(StoreError, match=r"guidelines\.md is missing"):
        workspace.guidelines()
    (workspace.path / "accord.db").unlink()
    with pytest.raises(StoreError, match=r"accord\.db is missing; restore it from a backup"):
        Workspace.open(workspace.path)
    assert not (workspace.path / "accord.db").exists()


def test_each_version_of_the_guidelines_is_kept(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path)
    version, text = workspace.guidelines()
    assert text == DEFAULT_GUIDELINES.read_text()
    (tmp_path / "guidelines.md").write_text("Be fair.")
    changed, _ = workspace.guidelines()
    assert changed != version
    assert (workspace.store.guidelines(version), workspace.store.guidelines(changed)) == (text, "Be fair.")


def test_the_default_guidelines_cover_what_labelers_must_know() -> None:
    text = DEFAULT_GUIDELINES.read_text()
    for said in (
        "criterion",
        "Ties sparingly",
        "FAIL",
        "nonsense",
        "Long is not better",
        "I don't know",
        "Read all",
    ):
        assert said in text


def test_the_database_setting_is_the_only_change_for_postgresql(tmp_path: Path, database_url: str) -> None:
    workspace = Workspace.create(tmp_path / "desk", database=database_url)
    workspace.store.add_prompts([Prompt.from_text("hello")])
    again = Workspace.open(tmp_path / "desk")
    assert [p.text for p in again.store.prompts()] == ["hello"]
    assert again.store.database.dialect == database_url.partition(":")[0].partition("+")[0]
    again.store.close()
    workspace.store.close()


def test_a_fresh_server_is_filled_when_the_setting_names_it(tmp_path: Path, database_url: str) -> None:
    folder = Workspace.create(tmp_path / "desk").path
    file = folder / "accord.toml"
    file.write_text(file.read_text().replace("sqlite:///accord.db", database_url))
    if database_url.startswith("sqlite"):
        with pytest.raises(StoreError, match="touch"):
            Workspace.open(folder)
        (tmp_path / "accord.db").touch()
    workspace = Workspace.open(folder)
    assert workspace.store.verify() == []
    workspace.store.close()


def test_a_password_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PW", "a/b@c")
    monkeypatch.setenv("URL", "postgresql://ann:x@host/db")
    assert database_url("postgresql://ann:${PW}@host/db", tmp_path) == "postgresql://ann:a%2Fb%40c@host/db"
    assert database_url("${URL}", tmp_path) == "postgresql://ann:x@host/db"
    assert database_url("sqlite:///a.db", Path("/w")) == "sqlite:////w/a.db"
    assert database_url("sqlite:////abs/a.db", Path("/w")) == "sqlite:////abs/a.db"


def test_a_new_accord_toml_explains_every_setting_and_changes_none() -> None:
    text = settings_text("sqlite:///accord.db", {"reward": ExampleConfig})
    plain = tomllib.loads(text)
    assert plain["database"] == "sqlite:///accord.db"
    assert all(section == {} for name, section in plain.items() if name != "database")
    for said in (
        "# Peak learning rate.",
        "# Halved at the end.",
        '# Folder of a "model".',
        "# base =  # not set",
    ):
        assert said in text.splitlines()
    chosen = re.sub(r"^# (\w+ = )(?! # not set)", r"\1", text, flags=re.MULTILINE)
    assert ExampleConfig.build(tomllib.loads(chosen)["reward"]) == ExampleConfig()
    assert tomllib.loads(chosen)["reward"].keys() == {"rate", "layers", "strict", "weights"}


def test_every_step_that_has_settings_has_its_section() -> None:
    assert set(step_configs()) == set(STEPS) == set(Settings.model_fields) - {"database"}
