"""Attacks on stored rows: by SQL, which the database refuses; behind its back, which verify() sees."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sqlalchemy import Table
from sqlalchemy.exc import DBAPIError

from accord.errors import DataError, StoreError
from accord.judgements import Comparison, Ranking, Thumb
from accord.store.rows import insert_new, ranking_row
from accord.store.store import Store
from accord.store.tables import TABLES, feedback, run_states, seal
from store_examples import PROMPTS

P, Q = PROMPTS


@pytest.fixture
def full(store: Store, ids: list[str], tmp_path: Path) -> Store:
    """A store with a row in every table, and a file as artefact."""
    store.add_prompts([P], split="train")
    store.add_guidelines("Be fair.")
    store.add_rankings([Ranking(P.id, "ann", ((ids[0],), (ids[1],)), id="one")])
    store.add_rankings([Ranking(P.id, "ann", ((ids[1],),), supersedes="one", id="two")])
    store.add_thumbs([Thumb(P.id, ids[0], "bob", True, id="vote")])
    run = store.start_run("agree", {"margin": 0.1})
    first, second, *_ = store.completions([P.id])[P.id]
    store.add_comparisons([Comparison(P, first, second, 0.75)], run.id)
    (run.path / "model.bin").write_bytes(b"weights")
    store.add_artefact(run.id, "model", run.path / "model.bin")
    store.finish_run(run.id, "done", {"pairs": 1})
    assert all(store.counts().values())
    assert store.verify() == []
    return store


def attacks(store: Store, table: Table) -> list[str]:
    name = table.name
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    found = [f"UPDATE {name} SET at = 'never'", f"DELETE FROM {name}", f"DELETE FROM {name} WHERE seq = 1"]
    if store.database.dialect == "postgresql":
        return [
            *found,
            f"TRUNCATE {name} CASCADE",
            f"INSERT INTO {name} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {name} "
            "ON CONFLICT (seq) DO UPDATE SET at = 'never'",
        ]
    found += [
        f"INSERT OR REPLACE INTO {name} ({columns}) SELECT {columns} FROM {name}",
        f"UPDATE OR REPLACE {name} SET seq = seq + 1",
    ]
    if table is not run_states:  # the one table where the same content may come twice
        other = columns.replace('"seq"', "seq + 100")
        found.append(f"REPLACE INTO {name} ({columns}) SELECT {other} FROM {name}")
    return found


def test_the_database_itself_refuses_every_change(full: Store) -> None:
    for table in TABLES:
        before = dump(full, table.name)
        for attack in attacks(full, table):
            with pytest.raises(DBAPIError, match="append-only"), full.database.engine.begin() as connection:
                connection.exec_driver_sql(attack)
        assert dump(full, table.name) == before


def dump(store: Store, name: str) -> list[tuple]:
    with store.database.engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM {name} ORDER BY seq")]


def tamper(store: Store, *statements: str) -> None:
    """Change rows as one could who owns the database: triggers and foreign keys off, and on again."""
    engine = store.database.engine
    with engine.connect() as connection:
        if store.database.dialect == "postgresql":
            connection.exec_driver_sql("SET session_replication_role = replica")
            for statement in statements:
                connection.exec_driver_sql(statement)
            connection.exec_driver_sql("SET session_replication_role = DEFAULT")
            connection.commit()
            return
        raw = connection.connection.driver_connection
        triggers = raw.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        raw.execute("PRAGMA foreign_keys = OFF")
        for name, _ in triggers:
            raw.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            raw.execute(statement)
        for _, sql in triggers:
            raw.execute(sql)
        raw.execute("PRAGMA foreign_keys = ON")


ALTERATIONS = [
    ("prompts", "messages = replace(messages, 'Where', 'When')"),
    ("prompts", "meta = '{}'"),
    ("splits", "split = 'test'"),
    ("origins", "model_hash = 'ff'"),
    ("origins", "seed = '6'"),
    ("completions", "text = '\"another\"'"),
    ("completions", "logprobs = replace(logprobs, '-0.1', '-0.2')"),
    ("completions", "text = 'not json'"),
    ("completions", "stop = 'eos'"),
    ("feedback", "labeler = 'eve'"),
    ("feedback", "judgement = replace(judgement, 'true', 'false')"),
    ("feedback", "at = '2020'"),
    ("feedback", "sha256 = 'ff'"),
    ("feedback", "supersedes = NULL"),
    ("guidelines", "text = '\"Be unfair.\"'"),
    ("runs", "config = '{\"margin\":0.2}'"),
    ("run_states", "metrics = '{\"pairs\":2}'"),
    ("comparisons", "p_chosen = 0.76"),
    ("artefacts", "content_hash = 'ff'"),
]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("table", "change"), ALTERATIONS)
def test_an_altered_row_is_found(full: Store, table: str, change: str) -> None:
    before = dump(full, table)
    tamper(full, f"UPDATE {table} SET {change}")
    altered = sum(old != new for old, new in zip(before, dump(full, table), strict=True))
    found = [problem for problem in full.verify() if "seal" in problem.what]
    assert altered == len(found) > 0
    assert {problem.table for problem in found} == {table}


def test_many_altered_rows_are_all_found(full: Store) -> None:
    tamper(full, *(f"UPDATE {table} SET {change}" for table, change in ALTERATIONS))
    found = {(problem.table, problem.id) for problem in full.verify() if "seal" in problem.what}
    untouched = 1  # the second prompt: not a word of it is changed
    assert len(found) == sum(full.counts().values()) - untouched


def test_a_lost_row_that_others_refer_to_is_found(full: Store, ids: list[str]) -> None:
    tamper(full, f"DELETE FROM completions WHERE id = '{ids[0]}'", "DELETE FROM feedback WHERE id = 'one'")
    found = {(problem.table, problem.what) for problem in full.verify()}
    assert ("comparisons", f"chosen_id {ids[0]!r} is not in completions") in found
    assert ("feedback", "supersedes 'one' is not in feedback") in found
    assert ("feedback", f"completion {ids[0]!r} is not one of prompt {P.id!r}") in found


def names(store: Store) -> set[tuple[str, str, str]]:
    return {(problem.table, problem.id, problem.what) for problem in store.verify()}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("table", "gone", "numbers", "what"),
    [
        ("feedback", "id IN ('two', 'vote')", "seq 2 to 3", "2 rows were taken away"),
        ("splits", "seq = 1", "seq 1", "1 row was taken away"),
        ("comparisons", "seq > 0", "seq 1", "1 row was taken away"),
        ("artefacts", "seq > 0", "seq 1", "1 row was taken away"),
    ],
)
def test_a_lost_row_that_nobody_refers_to_is_found(
    full: Store, table: str, gone: str, numbers: str, what: str
) -> None:
    tamper(full, f"DELETE FROM {table} WHERE {gone}")
    assert (table, numbers, what) in names(full)


def half_written(store: Store, ranking: Ranking) -> None:
    with store.database.write() as connection:
        insert_new(connection, feedback, [ranking_row(ranking)], lambda new, old: True)
        connection.exec_driver_sql("INSERT INTO feedback (id) VALUES ('bare')")


def test_a_refused_row_takes_no_number(full: Store, ids: list[str]) -> None:
    for _ in range(3):
        with pytest.raises(DataError):
            full.add_rankings([Ranking(P.id, "eve", ((ids[0],),)), Ranking(P.id, "eve", (("gone",),))])
        with pytest.raises(StoreError):
            half_written(full, Ranking(P.id, "eve", ((ids[0],),)))
    full.add_rankings([Ranking(P.id, "eve", ((ids[0],),))])
    assert full.verify() == []


def test_a_run_without_a_state_is_found(full: Store) -> None:
    made = full.artefacts("agree-1")[0].id
    run = full.start_run("reward", {}, ["agree-1", made, "0" * 16, "file:x"])
    (run.path / "weights").write_bytes(b"w")
    policy = full.add_artefact(run.id, "policy", run.path / "weights").id
    full.finish_run(run.id, "done", {"artefact": policy})
    full.start_run("align", {}, ["reward-1"])
    assert full.verify() == []
    tamper(full, "DELETE FROM artefacts", "DELETE FROM run_states WHERE run_id = 'reward-1'")
    tamper(full, "DELETE FROM run_states WHERE run_id = 'align-1'")
    found = names(full)
    for id in ("reward-1", "align-1"):
        assert ("runs", id, "it has no state, not even that it began") in found


def test_a_lost_run_artefact_or_folder_is_found(full: Store, tmp_path: Path) -> None:
    run = full.start_run("reward", {}, ["agree-1"])
    (run.path / "weights").write_bytes(b"w")
    policy = full.add_artefact(run.id, "policy", run.path / "weights").id
    full.finish_run(run.id, "done", {"artefact": policy})
    shutil.rmtree(tmp_path / "runs" / "agree-1")
    assert ("runs", "agree-1", "its folder runs/agree-1 is missing") in names(full)
    tables = ("comparisons", "artefacts", "run_states")
    tamper(full, *(f"DELETE FROM {table} WHERE run_id = 'agree-1'" for table in tables))
    tamper(full, "DELETE FROM runs WHERE id = 'agree-1'", f"DELETE FROM artefacts WHERE id = '{policy}'")
    found = names(full)
    assert ("runs", "reward-1", "its input 'agree-1' is no run or artefact of the store") in found
    assert ("runs", "reward-1", f"it made the artefact {policy!r}, which is not stored") in found


def reseal(store: Store, change: str, id: str) -> None:
    """Alter a row of feedback and forge its seal too: only what it says can give it away."""
    tamper(store, f"UPDATE feedback SET {change} WHERE id = '{id}'")
    with store.database.read() as connection:
        row = dict(connection.execute(feedback.select().where(feedback.c.id == id)).mappings().one())
    tamper(store, f"UPDATE feedback SET sha256 = '{seal(feedback, row)}' WHERE id = '{id}'")


def test_a_forged_correction_is_found(full: Store) -> None:
    for change, what in [
        ("labeler = 'eve'", "of another labeler"),
        (f"prompt_id = '{Q.id}'", "of another prompt_id"),
        ("supersedes = 'vote'", "of another kind"),
    ]:
        reseal(full, change, "two")
        assert any(what in problem.what for problem in full.verify()), change
        reseal(full, f"labeler = 'ann', prompt_id = '{P.id}', supersedes = 'one'", "two")
        assert full.verify() == []
    reseal(full, "supersedes = NULL", "two")
    reseal(full, "supersedes = 'two'", "one")
    assert [str(problem) for problem in full.verify()] == [
        "feedback one: supersedes 'two', which came after it"
    ]


def test_missing_and_changed_artefacts_are_found(full: Store, tmp_path: Path) -> None:
    file = tmp_path / "runs" / "agree-1" / "model.bin"
    file.write_bytes(b"weighty")
    assert [p.what for p in full.verify()] == ["runs/agree-1/model.bin of run 'agree-1' was changed"]
    file.unlink()
    assert [p.what for p in full.verify()] == ["runs/agree-1/model.bin of run 'agree-1' is missing"]


def test_a_lost_trigger_and_an_old_revision_are_found(full: Store) -> None:
    postgres = full.database.dialect == "postgresql"
    name = "feedback_keep_rows" if postgres else "feedback_keep_update"
    with full.database.engine.begin() as connection:
        connection.exec_driver_sql(f"DROP TRIGGER {name}" + (" ON feedback" if postgres else ""))
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
    found = {(problem.table, problem.id) for problem in full.verify()}
    assert found == {("feedback", name), ("database", "0000")}
