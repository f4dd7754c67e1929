"""What the task page would submit is what was entered: its pure state (state.js), played in Node.

A model of a few lines keeps places the plain way; both see the same moves, hundreds of games at a time.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from accord.feedback.app.deps import HERE
from accord.feedback.labeling.answers import Answer, to_feedback
from accord.feedback.labeling.config import LabelConfig

FAIL = "fail"
GAMES = 600
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="there is no `node` on PATH")


def played(games: list[dict], folder: Path) -> list[dict]:
    """What state.js makes of the games."""
    module, player = folder / "state.mjs", folder / "play.mjs"
    shutil.copy(HERE / "static" / "state.js", module)  # Node takes it for a module by its ending
    shutil.copy(Path(__file__).with_name("play_state.js"), player)
    done = subprocess.run(
        [NODE, player, module], input=json.dumps(games), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def draw(rng: random.Random, protocol: str) -> dict:
    """A game: what is shown, and moves with some undone, some senseless, and the page loaded anew."""
    shown = [f"c{n}" for n in range(2 if protocol == "pair" else rng.randint(2, 9))]
    rng.shuffle(shown)
    steps: list[list] = []
    if protocol == "rank" and rng.random() < 0.7:  # a whole ranking, and then some
        steps += [["place", id, rng.choice([*range(1, len(shown) + 1), FAIL])] for id in shown]
    for _ in range(rng.randint(1, 12)):
        id, tier = rng.choice(shown), rng.randint(1, len(shown))
        ranks = [["place", id, rng.choice([tier, tier, FAIL, None])], ["insert", id, tier]]
        pairs = [["choose", rng.choice([-3, -2, -1, 0, 1, 2, 3, FAIL])]]
        own = {"rank": ranks, "pair": pairs, "thumb": [["thumb", id, rng.choice([True, False, None])]]}
        steps.append(rng.choice([*own[protocol], *own[protocol], ["undo"], ["reload"]]))
    return {"protocol": protocol, "shown": shown, "steps": steps}


def entered(game: dict) -> object:
    """Where the moves lead, kept the plain way: places, a choice, or thumbs."""
    at: object = None if game["protocol"] == "pair" else {}
    past = []
    for what, *given in game["steps"]:
        if what == "reload":
            continue
        if what == "undo":
            at = past.pop() if past else at
            continue
        after = given[0] if what == "choose" else moved(dict(at), what, *given)
        if after != at:
            past.append(at)
        at = after
    return at


def moved(at: dict, what: str, id: str, to: object) -> dict:
    at.pop(id, None)
    if what == "insert":
        levels = sorted({tier for tier in at.values() if tier != FAIL})
        order = [[each for each in at if at[each] == level] for level in levels]
        order.insert(sum(level < to for level in levels), [id])
        fails = {each: FAIL for each in at if at[each] == FAIL}
        return {**{each: n + 1 for n, tier in enumerate(order) for each in tier}, **fails}
    return at if to is None else {**at, id: to}


def tiers_of(places: dict) -> list[set[str]]:
    levels = sorted({tier for tier in places.values() if tier != FAIL})
    return [{id for id in places if places[id] == level} for level in levels]


@needs_node
def test_a_ranking_is_submitted_as_it_was_entered(tmp_path: Path) -> None:
    rng = random.Random(1)
    games = [draw(rng, "rank") for _ in range(GAMES)]
    whole = ties = failed = 0
    for game, got in zip(games, played(games, tmp_path), strict=True):
        places, sent = entered(game), got["sent"]
        assert [set(tier) for tier in sent["tiers"]] == tiers_of(places), game
        assert set(sent["fails"]) == {id for id in places if places[id] == FAIL}, game
        assert (got["open"] == "") == (set(places) == set(game["shown"])), game
        assert got["elsewhere"] is None, "a draft of another order is no draft of this one"
        if got["open"]:
            continue
        stored = to_feedback(row(game), answer(sent), "g", LabelConfig())[1][0]
        assert [list(tier) for tier in stored.tiers] == sent["tiers"]
        assert list(stored.fails) == sent["fails"]
        assert (got["again"]["tiers"], got["again"]["fails"]) == (sent["tiers"], sent["fails"]), "taken back"
        whole, ties = whole + 1, ties + any(len(tier) > 1 for tier in sent["tiers"])
        failed += bool(sent["fails"])
    assert min(whole, ties, failed) > GAMES / 5, "the games are worth playing"


@needs_node
def test_a_choice_of_two_is_submitted_as_it_was_made(tmp_path: Path) -> None:
    rng = random.Random(2)
    games = [draw(rng, "pair") for _ in range(GAMES)]
    for game, got in zip(games, played(games, tmp_path), strict=True):
        choice, sent, (first, second) = entered(game), got["sent"], game["shown"]
        assert (got["open"] == "") == (choice is not None), game
        if choice is None:
            continue
        if choice == FAIL:
            expected = ([], {first, second}, None)
        elif choice == 0:
            expected = ([{first, second}], set(), 0)
        else:
            best = [{first}, {second}] if choice < 0 else [{second}, {first}]
            expected = (best, set(), pytest.approx(abs(choice) / 3))
        tiers = [set(tier) for tier in sent["tiers"]]
        assert (tiers, set(sent["fails"]), sent.get("strength")) == expected, game
        to_feedback(row(game), answer(sent), "g", LabelConfig(protocol="pair"))
        assert got["again"] == sent, "taken back"


@needs_node
def test_thumbs_are_submitted_as_they_were_given(tmp_path: Path) -> None:
    rng = random.Random(3)
    games = [draw(rng, "thumb") for _ in range(GAMES // 3)]
    for game, got in zip(games, played(games, tmp_path), strict=True):
        assert got["sent"]["thumbs"] == entered(game), game
        assert (got["open"] == "") == (set(entered(game)) == set(game["shown"])), game


def row(game: dict) -> dict:
    """An assignment that shows the game's completions."""
    names = ("prompt_id", "labeler", "criterion", "arm", "id")
    return {**dict.fromkeys(names, "x"), "feedback_id": None, "shown": game["shown"]}


def answer(sent: dict) -> Answer:
    return Answer(tuple(map(tuple, sent["tiers"])), tuple(sent["fails"]), sent.get("strength"))
