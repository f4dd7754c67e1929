"""Progress and intake on a real store, moved by the real queue."""

import pytest
from sqlalchemy import select, update

from accord.errors import DataError
from accord.feedback.labeling import people
from accord.feedback.labeling.answers import Answer
from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.monitor import DAY, intake, progress
from accord.feedback.labeling.monitor_review import adjudicate, case, pause, resume
from accord.feedback.labeling.people import Role
from accord.feedback.labeling.queue import claim, fill, set_gold
from accord.feedback.labeling.submit import flag, refuse, skip, submit, take_back
from accord.feedback.labeling.webhooks import add_webhook, deliveries
from accord.store import state as t
from accord.store.store import Store
from accord.types import Completion, Prompt

NOW = 1_800_000_000.0
CONFIG = LabelConfig(adaptive=False, overlap=2, repeat_share=0, gold_share=0, completions=3)


@pytest.fixture
def store(tmp_path):
    store = opened(f"sqlite:///{tmp_path / 'a.db'}", tmp_path)
    yield store
    store.close()


def opened(url, folder):
    """Three prompts of three completions, two labelers and a reviewer."""
    store = Store(url, folder)
    store.add_groups(
        [(Prompt.from_text(f"q{n}", id=f"q{n}"), [Completion(f"{n}{c}") for c in "abc"]) for n in range(3)]
    )
    for name, role in (("ann", Role.LABELER), ("ben", Role.LABELER), ("rev", Role.REVIEWER)):
        people.add_person(store, name, role, NOW)
    fill(store, CONFIG)
    return store


def rank(store, labeler, now=NOW, reverse=False, config=CONFIG):
    """Claim a task and put the completions in the order of their texts; returns its prompt."""
    task = claim(store, labeler, config, now)
    order = sorted(task.completions, key=lambda c: c.text, reverse=reverse)
    key = f"{labeler}-{task.id}-{now}"
    submit(store, labeler, task.id, Answer(tuple((c.id,) for c in order)), key, "v1", config, now)
    return task.prompt.id


def test_progress_follows_the_queue(store):
    start = progress(store, CONFIG, NOW)
    assert (start.settled, start.open, start.untouched, start.labels) == (0, 0, 3, 0)
    assert (start.left_least, start.left_most, start.per_day, start.days_left) == (6, 6, None, None)
    first = rank(store, "ann")
    half = progress(store, CONFIG, NOW)
    assert (half.settled, half.open, half.untouched, half.labels) == (0, 1, 2, 1)
    assert half.left_least == 5
    while rank(store, "ben") != first:
        pass
    there = progress(store, CONFIG, NOW)
    assert there.settled == 1
    assert there.prompts == 3
    assert sum(there.arms.values()) == there.labels == 6 - there.left_least


def test_a_leased_task_is_open_and_an_adaptive_one_may_ask_for_more(store):
    adaptive = CONFIG.model_copy(update={"adaptive": True, "overlap": 5})
    claim(store, "ann", adaptive, NOW)
    found = progress(store, adaptive, NOW)
    assert (found.open, found.untouched, found.working) == (1, 2, 1)
    assert (found.left_least, found.left_most) == (6, 15)
    assert progress(store, adaptive, NOW + 3600).working == 0


def test_pace_and_days(store):
    rank(store, "ann", NOW - 3 * DAY)
    rank(store, "ann", NOW - 3600)
    rank(store, "ben", NOW - 1800)
    found = progress(store, CONFIG, NOW)
    assert found.per_day == pytest.approx(3 / 3)
    assert found.days_left == (3.0, 3.0)
    assert found.daily[-1] == 2
    assert found.daily[-4] + found.daily[-3] == 1
    assert sum(found.daily) == 3
    assert progress(store, CONFIG, NOW + 8 * DAY).per_day is None


def test_what_was_skipped_and_flagged_has_its_reasons(store):
    task = claim(store, "ann", CONFIG, NOW)
    flag(store, "ann", task.id, "personal data", "a street", task.completions[0].id, "f1", NOW)
    skip(store, "ann", task.id, "not my field", "", "s1", NOW)
    found = progress(store, CONFIG, NOW)
    assert (dict(found.skipped), dict(found.flagged)) == ({"not my field": 1}, {"personal data": 1})
    assert found.flags[0].note == "a street"
    assert found.open == 0


def test_gold_prompts_are_no_tasks(store):
    ids = [c.id for c in store.completions(["q0"])["q0"]]
    set_gold(store, "q0", [[ids[0]], ids[1:]])
    assert progress(store, CONFIG, NOW).prompts == 2


def test_received_is_stored_plus_refused(store):
    rank(store, "ann")
    rank(store, "ben")
    refuse(store, "ann", "assignment 'a1' is not one of yours", {"x": 1}, NOW)
    refuse(store, "ann", "assignment 'b2' is not one of yours", {"x": 2}, NOW - 2 * 3600)
    found = intake(store, NOW)
    assert found.total.received == 4
    assert found.total.stored == 2
    assert found.total.refused == {"assignment … is not one of yours": 2}
    assert sum(found.hour.refused.values()) == sum(found.week.refused.values()) == 1
    assert found.sound


def test_a_planted_outage_raises_the_alarm(store):
    rank(store, "ann", NOW - 5000)
    for n in range(9):
        refuse(store, "ann", "the database is read-only", {"n": n}, NOW - n)
    (alarm,) = intake(store, NOW).alarms
    assert "9 of 9 submits" in alarm


def test_tasks_that_lapse_are_counted_once_they_do(store):
    claim(store, "ann", CONFIG, NOW)
    assert intake(store, NOW + 60).hour.lapsed == 0
    assert intake(store, NOW + 31 * 60).hour.lapsed == 1
    assert intake(store, NOW + 2 * 3600).hour.lapsed == 0
    assert intake(store, NOW + 2 * 3600).week.lapsed == 1


def test_a_torn_answer_is_a_gap(store):
    rank(store, "ann")
    assert intake(store, NOW).gaps == ()
    with store.database.write() as connection:
        connection.execute(update(t.assignments).values(feedback_id=None))
    found = intake(store, NOW)
    assert found.gaps == (
        "1 answered tasks have no stored label",
        "1 submissions were received for tasks that have no label",
    )
    assert not found.sound


def test_an_answer_without_a_receipt_is_a_gap(store):
    rank(store, "ann")
    with store.database.write() as connection:
        connection.execute(t.submissions.delete())
    assert intake(store, NOW).gaps == ("1 answered tasks have no record of what was received",)


def test_the_figures_and_acts_are_the_same_on_sqlite_and_postgresql(database_url, tmp_path):
    store = opened(database_url, tmp_path)
    first, second = (rank(store, "ann", NOW - n * DAY) for n in (2, 0))
    task = claim(store, "ben", CONFIG, NOW)
    flag(store, "ben", task.id, "odd", "", "", "f", NOW)
    skip(store, "ben", task.id, "odd", "", "s", NOW)
    refuse(store, "ben", "too late", {}, NOW - 10)
    claim(store, "ben", CONFIG, NOW)
    ids = [c.id for c in case(store, first, "rev", CONFIG.criterion).completions]
    adjudicate(store, "rev", first, Answer((tuple(ids),)), "v1", CONFIG, NOW)
    assert pause(store, "ann", again=True)[1] == 1
    found, came = progress(store, CONFIG, NOW), intake(store, NOW)
    assert (found.settled, found.labels, found.working) == (1, 3, 1)
    assert found.per_day == pytest.approx(3 / 2)
    assert found.daily[-1] == 2
    assert (found.skipped, found.flagged) == ({"odd": 1}, {"odd": 1})
    assert (came.total.received, came.hour.received, came.gaps) == (5, 4, ())
    resume(store, "ann")
    assert second in {r.prompt_id for r in store.rankings()}
    assert not store.verify()
    store.close()


# -- adjudication ----------------------------------------------------------------------------------


def test_an_adjudication_is_one_more_ranking_and_closes_the_prompt(store):
    first = rank(store, "ann")
    at = case(store, first, "rev", CONFIG.criterion)
    assert [r.labeler for r in at.rankings] == ["ann"]
    assert at.completions[0].origin is None
    ids = [c.id for c in at.completions]
    answer = Answer((tuple(ids[:2]),), (ids[2],), note="c invents a law")
    made = adjudicate(store, "rev", first, answer, "v1", CONFIG, NOW)
    (final,) = [r for r in store.rankings() if r.id == made]
    assert (final.labeler, final.arm, final.source, final.note) == (
        "rev", "adjudicated", "human", "c invents a law",
    )  # fmt: skip
    assert final.shown == tuple(ids)
    assert len(list(store.rankings())) == 2, "the labeler's ranking stands"
    assert progress(store, CONFIG, NOW).settled == 1
    met = {rank(store, "ben") for _ in range(2)}
    assert first not in met
    assert claim(store, "ben", CONFIG, NOW) is None
    assert case(store, first, "rev", CONFIG.criterion).final == final


def test_an_adjudication_leaves_the_tasks_of_another_criterion_open(store):
    other = CONFIG.model_copy(update={"criterion": "short"})
    fill(store, other)
    first = rank(store, "ann")
    ids = [c.id for c in case(store, first, "rev", CONFIG.criterion).completions]
    adjudicate(store, "rev", first, Answer((tuple(ids),)), "v1", CONFIG, NOW)
    with store.database.read() as connection:
        q = t.queue.c
        open_tasks = select(q.criterion).where(q.prompt_id == first, q.taken < q.wanted)
        assert connection.execute(open_tasks).scalars().all() == ["short"]


def test_the_same_adjudication_again_changes_nothing_and_another_supersedes(store):
    first = rank(store, "ann")
    ids = [c.id for c in case(store, first, "rev", CONFIG.criterion).completions]
    one = adjudicate(store, "rev", first, Answer(((ids[0],), tuple(ids[1:]))), "v1", CONFIG, NOW)
    again = adjudicate(store, "rev", first, Answer(((ids[0],), (ids[2], ids[1]))), "v1", CONFIG, NOW + 9)
    assert one == again
    other = adjudicate(store, "rev", first, Answer((tuple(ids),)), "v1", CONFIG, NOW + 99)
    (final,) = [r for r in store.rankings() if r.arm == "adjudicated"]
    assert (final.id, final.supersedes) == (other, one)
    assert intake(store, NOW).gaps == ()
    assert not store.verify()


def test_who_listens_hears_of_an_adjudication(store):
    add_webhook(store, "https://example.org/hook", [], NOW)
    first = rank(store, "ann")
    ids = [c.id for c in case(store, first, "rev", CONFIG.criterion).completions]
    one = adjudicate(store, "rev", first, Answer((tuple(ids),)), "v1", CONFIG, NOW + 1)
    two = adjudicate(store, "rev", first, Answer(((ids[0],), tuple(ids[1:]))), "v1", CONFIG, NOW + 2)
    told = [d for d in deliveries(store)[::-1] if d.payload.get("labeler") != "ann"]
    assert [d.event for d in told] == ["label.created", "prompt.complete", "label.superseded"] or [
        d.event for d in told
    ] == ["prompt.complete", "label.created", "label.superseded"]
    assert told[-1].payload["supersedes"] == one
    assert told[-1].payload["feedback"] == [two]
    assert {d.payload["prompt"] for d in told} == {first}


@pytest.mark.parametrize("damage", ["missing", "foreign", "twice"])
def test_an_adjudication_places_every_completion_once(store, damage):
    first = rank(store, "ann")
    ids = [c.id for c in case(store, first, "rev", CONFIG.criterion).completions]
    tiers = {"missing": (tuple(ids[:2]),), "foreign": ((*ids, "x"),), "twice": (tuple(ids), (ids[0],))}
    with pytest.raises(DataError):
        adjudicate(store, "rev", first, Answer(tiers[damage]), "v1", CONFIG, NOW)
    assert len(list(store.rankings())) == 1


def test_a_label_that_arrives_after_an_adjudication_does_not_open_the_prompt_again(store):
    adaptive = CONFIG.model_copy(update={"adaptive": True, "overlap": 5, "first_overlap": 1, "certain": 0.99})
    first = rank(store, "ann", config=adaptive)
    task = claim(store, "ben", adaptive, NOW)
    while task.prompt.id != first:
        skip(store, "ben", task.id, "no", "", task.id, NOW)
        task = claim(store, "ben", adaptive, NOW)
    ids = [c.id for c in case(store, first, "rev", CONFIG.criterion).completions]
    adjudicate(store, "rev", first, Answer((tuple(ids),)), "v1", adaptive, NOW)
    answer = Answer(tuple((c.id,) for c in task.completions))
    submit(store, "ben", task.id, answer, "late", "v1", adaptive, NOW)
    assert progress(store, adaptive, NOW).settled == 1


def test_an_unknown_prompt_is_no_case(store):
    with pytest.raises(DataError, match="not stored"):
        case(store, "nowhere", "rev", CONFIG.criterion)


# -- pauses ----------------------------------------------------------------------------------------


def test_a_pause_gives_back_the_task_and_asks_others_and_a_resume_counts_again(store):
    mine = [rank(store, "ann") for _ in range(2)]
    held = claim(store, "ann", CONFIG, NOW)
    person, asked = pause(store, "ann", again=True)
    assert (person.status, asked) == ("paused", 2)
    paused = progress(store, CONFIG, NOW)
    assert (paused.left_least, paused.working, paused.labels) == (6, 0, 2)
    assert len(list(store.rankings())) == 2, "no label goes away"
    assert claim(store, "ann", CONFIG, NOW) is None
    assert not store.verify()
    resume(store, "ann")
    back = progress(store, CONFIG, NOW)
    assert (back.left_least, back.open) == (4, 2)
    assert not store.verify()
    task = claim(store, "ann", CONFIG, NOW)
    assert (task.prompt.id, task.id) == (held.prompt.id, held.id)
    assert task.prompt.id not in mine
    assert intake(store, NOW).gaps == ()


def test_a_resume_after_others_answered_counts_everybody(store):
    first = rank(store, "ann")
    people.add_person(store, "cat", Role.LABELER, NOW)
    pause(store, "ann", again=True)
    for name in ("ben", "cat"):
        while rank(store, name) != first:
            pass
    resume(store, "ann")
    assert not store.verify()
    assert len([r for r in store.rankings() if r.prompt_id == first]) == 3


def test_a_pause_without_asking_again_leaves_the_counts(store):
    rank(store, "ann")
    assert pause(store, "ann", again=False)[1] == 0
    assert progress(store, CONFIG, NOW).left_least == 5
    resume(store, "ann")
    assert progress(store, CONFIG, NOW).left_least == 5


def test_a_pause_does_not_open_what_is_adjudicated_or_gold(store):
    one, two, three = (rank(store, "ann") for _ in range(3))
    ids = [c.id for c in case(store, one, "rev", CONFIG.criterion).completions]
    adjudicate(store, "rev", one, Answer((tuple(ids),)), "v1", CONFIG, NOW)
    ids = [c.id for c in store.completions([two])[two]]
    set_gold(store, two, [[ids[0]], ids[1:]])
    assert pause(store, "ann", again=True)[1] == 1
    resume(store, "ann")
    assert three


def test_a_pause_keeps_an_answer_that_was_taken_back(store):
    rank(store, "ann")
    take_back(store, "ann", CONFIG, NOW)
    pause(store, "ann", again=False)
    found = progress(store, CONFIG, NOW)
    assert (found.labels, found.left_least) == (1, 5)
