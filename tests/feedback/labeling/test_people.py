"""Who may come in: invitations that end, passwords, sessions, tokens, and what the database keeps of them."""

import hashlib
import threading

import pytest
from sqlalchemy import event, select

from accord.errors import DataError, StoreError
from accord.feedback.labeling import people
from accord.feedback.labeling.people import DAY, Role
from accord.store import state as t
from accord.store.store import Store

NOW = 1_800_000_000.0
PASSWORD = "correct horse battery"


@pytest.fixture
def store(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/accord.db")
    yield store
    store.close()


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch):
    """The cost is a setting; its full size is paid in one test only."""
    monkeypatch.setitem(people.SCRYPT, "n", 16)
    monkeypatch.setitem(people.SCRYPT, "p", 1)


def join(store, name="ann", role=Role.LABELER, now=NOW):
    return people.accept(store, people.invite(store, role, None, now), name, PASSWORD, now)


def test_an_invitation_makes_one_person_who_can_then_log_in(store):
    people.add_person(store, "olga", Role.OWNER, NOW - DAY)
    secret = people.invite(store, Role.LABELER, "olga", NOW)
    assert people.invitation(store, secret, NOW) == people.Invitation(Role.LABELER, None)
    ann = people.accept(store, secret, "  ann   lee ", PASSWORD, NOW)
    assert (ann.name, ann.role, ann.status, ann.acknowledged, ann.quiz) == (
        "ann lee", Role.LABELER, "active", None, ""
    )  # fmt: skip
    with pytest.raises(DataError, match="used already"):
        people.accept(store, secret, "bob", PASSWORD, NOW)
    session, who = people.log_in(store, "ann lee", PASSWORD, NOW)
    found = people.session(store, session, NOW)
    assert who == ann == found.person
    assert len(found.csrf) >= 32
    assert [each.name for each in people.people(store)] == ["olga", "ann lee"]


def test_an_invitation_counts_its_uses_and_its_days(store):
    secret = people.invite(store, Role.LABELER, None, NOW, days=2, uses=2)
    people.accept(store, secret, "ann", PASSWORD, NOW + 2 * DAY - 1)
    assert people.invitation(store, secret, NOW + 2 * DAY) is None
    with pytest.raises(DataError, match="expired"):
        people.accept(store, secret, "bob", PASSWORD, NOW + 2 * DAY)
    people.accept(store, secret, "bob", PASSWORD, NOW)
    with pytest.raises(DataError, match="used already"):
        people.accept(store, secret, "eve", PASSWORD, NOW)


def test_a_mistake_does_not_use_an_invitation_up(store):
    join(store, "ann")
    secret = people.invite(store, Role.LABELER, None, NOW)
    for name, password, complaint in (
        ("Ann", PASSWORD, "taken"),
        ("", PASSWORD, "1 to 60"),
        ("x" * 61, PASSWORD, "61 characters"),
        ("b\x00b", PASSWORD, "cannot be seen"),
        ("b\u202eb", PASSWORD, "cannot be seen"),
        ("b/b", PASSWORD, "parts addresses"),
        ("bob", "short", "5 characters"),
        ("bob", None, "password is missing"),
    ):
        with pytest.raises(DataError, match=complaint):
            people.accept(store, secret, name, password, NOW)
    assert people.accept(store, secret, "bob", PASSWORD, NOW).name == "bob"


def test_one_use_is_one_person_even_when_all_come_at_once(store):
    secret = people.invite(store, Role.LABELER, None, NOW, uses=3)
    ends = []

    def come(i):
        try:
            ends.append(people.accept(store, secret, f"p{i}", PASSWORD, NOW).name)
        except DataError:
            ends.append(None)

    threads = [threading.Thread(target=come, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([name for name in ends if name]) == len(people.people(store)) == 3


def test_a_link_of_ones_own_signs_in_once_and_may_set_a_password(store):
    people.add_person(store, "olga", Role.OWNER, NOW)
    secret = people.sign_in_link(store, "olga", NOW, minutes=60)
    assert people.invitation(store, secret, NOW + 3600) is None
    assert people.invitation(store, secret, NOW).person.name == "olga"
    old = people.open_session(store, people.person(store, "olga"), NOW)
    assert people.accept(store, secret, "", None, NOW).name == "olga"
    assert people.invitation(store, secret, NOW) is None
    assert people.session(store, old, NOW) is not None
    people.accept(store, people.sign_in_link(store, "olga", NOW), "", PASSWORD, NOW)
    assert people.session(store, old, NOW) is None, "a new password ends the other sessions"
    assert people.log_in(store, "olga", PASSWORD, NOW)[1].role is Role.OWNER
    link = people.sign_in_link(store, "olga", NOW)
    people.add_person(store, "otto", Role.OWNER, NOW)
    people.set_status(store, "olga", "paused")
    assert people.invitation(store, link, NOW) is None


def test_a_wrong_log_in_says_the_same_whatever_is_wrong(store):
    join(store, "ann")
    people.add_person(store, "nopassword", Role.LABELER, NOW)
    said = set()
    for name, password in (
        ("ann", "wrong"), ("nobody", PASSWORD), ("nopassword", ""), ("", ""), ("a\x00", "x"), ("\ud800", "x"),
    ):  # fmt: skip
        with pytest.raises(DataError) as error:
            people.log_in(store, name, password, NOW)
        said.add(str(error.value))
    assert len(said) == 1


def test_an_unknown_name_costs_the_same_hash(store, monkeypatch):
    join(store, "ann")
    hashed = []
    plain = people._scrypt
    monkeypatch.setattr(people, "_scrypt", lambda *given: hashed.append(given[2:]) or plain(*given))
    for name in ("ann", "nobody"):
        with pytest.raises(DataError):
            people.log_in(store, name, "wrong password", NOW)
    assert len(hashed) == 2


def test_sessions_end_by_time_by_logging_out_and_by_a_pause(store):
    ann = join(store, "ann")
    first, second = (people.open_session(store, ann, NOW) for _ in range(2))
    assert first != second
    assert people.session(store, first, NOW).csrf != people.session(store, second, NOW).csrf
    people.log_out(store, first)
    assert people.session(store, first, NOW) is None
    assert people.session(store, second, NOW + people.SESSION_DAYS * DAY - 1) is not None
    assert people.session(store, second, NOW + people.SESSION_DAYS * DAY) is None
    people.set_status(store, "ann", "paused")
    assert people.session(store, second, NOW) is None
    with pytest.raises(DataError, match="paused"):
        people.log_in(store, "ann", PASSWORD, NOW)
    people.set_status(store, "ann", "active")
    assert people.session(store, second, NOW) is not None


def test_tokens_act_for_a_person_until_they_are_revoked(store):
    join(store, "ann")
    forever = people.issue_token(store, "ann", NOW)
    short = people.issue_token(store, "ann", NOW, days=1)
    assert people.person_of_token(store, forever, NOW + 9999 * DAY).name == "ann"
    assert people.person_of_token(store, short, NOW + DAY) is None
    people.set_status(store, "ann", "paused")
    assert people.person_of_token(store, forever, NOW) is None
    people.set_status(store, "ann", "active")
    assert people.revoke_tokens(store, "ann") == 2
    assert people.person_of_token(store, forever, NOW) is None


def test_who_asks_is_one_statement(store):
    ann = join(store, "ann")
    session, token = people.open_session(store, ann, NOW), people.issue_token(store, "ann", NOW)
    asked = []
    event.listen(store.database.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    assert people.session(store, session, NOW).person == people.person_of_token(store, token, NOW) == ann
    assert [sql.split()[0] for sql in asked if not sql.startswith("BEGIN")] == ["SELECT", "SELECT"]


def test_one_kind_of_secret_does_not_serve_as_another(store):
    ann = join(store, "ann")
    kinds = {
        "session": people.open_session(store, ann, NOW),
        "token": people.issue_token(store, "ann", NOW),
        "invite": people.invite(store, Role.OWNER, None, NOW),
        "link": people.sign_in_link(store, "ann", NOW),
    }
    for kind, secret in kinds.items():
        assert (people.session(store, secret, NOW) is not None) == (kind == "session")
        assert (people.person_of_token(store, secret, NOW) is not None) == (kind == "token")
        assert (people.invitation(store, secret, NOW) is not None) == (kind in ("invite", "link"))


def test_the_database_holds_no_secret_and_no_password(store, tmp_path):
    ann = join(store, "ann")
    given = [
        people.open_session(store, ann, NOW),
        people.issue_token(store, "ann", NOW),
        people.invite(store, Role.LABELER, None, NOW),
        people.sign_in_link(store, "ann", NOW),
    ]
    with store.database.read() as connection:
        hashes = set(connection.execute(select(t.secrets.c.hash)).scalars())
    assert {hashlib.sha256(secret.encode()).hexdigest() for secret in given} < hashes
    store.close()
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    for secret in (*given, PASSWORD):
        assert secret.encode() not in kept
    for secret in given:  # nor the random part alone, which may hold "-" itself
        assert secret.removeprefix("accord-").split("-", 1)[1].encode() not in kept


def test_the_last_owner_stays(store):
    people.add_person(store, "olga", Role.OWNER, NOW)
    with pytest.raises(DataError, match="only active owner"):
        people.set_status(store, "olga", "paused")
    people.add_person(store, "otto", Role.OWNER, NOW)
    assert not people.set_status(store, "olga", "paused").active
    with pytest.raises(DataError, match="only active owner"):
        people.set_status(store, "otto", "paused")
    with pytest.raises(DataError, match="active or paused"):
        people.set_status(store, "otto", "gone")
    with pytest.raises(DataError, match="nobody called 'eve'"):
        people.set_status(store, "eve", "paused")


def test_guidelines_are_acknowledged_by_version(store):
    join(store, "ann")
    version = store.add_guidelines("Be fair.")
    people.acknowledge(store, "ann", version, NOW)
    assert people.person(store, "ann").acknowledged == version
    with pytest.raises(StoreError, match="no guidelines of version"):
        people.acknowledge(store, "ann", "0" * 16, NOW)


@pytest.mark.parametrize("bad", [{"days": 0}, {"days": 400}, {"uses": 0}, {"uses": 1001}])
def test_an_invitation_has_bounds(store, bad):
    with pytest.raises(DataError, match=r"an invitation (is|lasts)"):
        people.invite(store, Role.LABELER, None, NOW, **bad)


def test_a_password_is_hashed_by_scrypt_at_full_cost(monkeypatch):
    monkeypatch.undo()
    first, second = (people.hash_password("ﬁne — passw\u0301ord") for _ in range(2))
    assert first.split("$")[:4] == ["scrypt", "16384", "8", "5"]
    assert first != second, "each has its own salt"
    assert people.check_password("ﬁne — passẃord", first), "typed composed or not, it is the same password"
    assert not people.check_password("fine — passẃord", first)
    salt, stored = first.split("$")[4:]
    assert people.check_password("", people.nobody()) is False
    assert len(salt) == 24
    assert len(stored) == 44
