"""A constitution over real (tiny) models: from the command line to chains, a model, comparisons and a
reward."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from accord.cli import main
from accord.constitution import prefer as phase_two
from accord.constitution.prefer import SOURCE
from accord.constitution.revise import Chain, Step, as_row
from accord.errors import ConfigError, DataError, StoreError
from accord.judgements import Comparison
from accord.lm.adapted import load_model
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.render import Template
from accord.lm.tiny import write_tiny
from accord.recipes import constitution as c
from accord.recipes.record import comparisons_of, recorded
from accord.store.lineage import Status
from accord.types import Completion, Prompt
from accord.workspace import Workspace
from chatting import chat_server, choose, completion
from realdata import real_data, real_file

RULES = """name = "tiny"
[[principle]]
name = "mild"
critique = "it?"
revision = "so."
choose = "that?"
[[principle]]
name = "brief"
critique = "is it?"
revision = "is so."
choose = "is that?"
"""
QUESTION = "{prompt} {first} {second} {criterion}"
SMALL = ["--max-new-tokens", "8"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("constitution")
    write_tiny(folder / "model", "llama", chat=True)
    write_tiny(folder / "judge", "llama", chat=True, seed=1)
    (folder / "rules.toml").write_text(RULES)
    return folder


@pytest.fixture
def work(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.chdir(place)
    work = Workspace.create(tmp_path / "work")
    work.store.add_prompts([Prompt.from_text(f"what is {i} ?") for i in range(12)], "train")
    return work


def accord(
    work: Workspace, *words: str, code: int = 0, capsys: pytest.CaptureFixture[str]
) -> dict[str, object]:
    with pytest.raises(SystemExit) as left:
        main([*words, "-w", str(work.path), "--json"])
    said = capsys.readouterr()
    assert left.value.code == code, said.err
    return json.loads(said.out.splitlines()[-1]) if said.out else {}


def test_both_phases_from_the_command_line(work: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    made = accord(
        work,
        "constitute",
        "revise",
        "--model",
        "model",
        "--constitution",
        "rules.toml",
        "--max-new-tokens",
        "64",
        capsys=capsys,
    )
    assert made["chains"] == 12
    assert made["constitution"].startswith("tiny 1 (")
    trained = accord(
        work, "constitute", "supervise", "--model", "model", "--helpful", "train", "--learning-rate", "1e-3",
        *SMALL, capsys=capsys,
    )  # fmt: skip
    chains = c.read_chains(work.store.artefact(str(made["artefact"])).path)
    assert trained["revisions"] == sum(chain.whole for chain in chains) > 4
    accord(work, "sample", "--model", str(trained["model"]), "--n", "3", *SMALL, capsys=capsys)
    preferred = accord(
        work, "constitute", "prefer", "--judge", "judge", "--constitution", "rules.toml", "--of",
        str(trained["model"]), "--question", QUESTION, "--most-flipped", "1", capsys=capsys,
    )  # fmt: skip
    runs, compared = comparisons_of(work)
    assert runs == [preferred["run"]]
    assert len(compared) == preferred["comparisons"] > 12
    assert {one.source for one in compared} == {SOURCE}
    assert {one.labelers for one in compared} == {("mild",), ("brief",)}
    rewarded = accord(work, "reward", "--base", "model", "--batch-prompts", "4", capsys=capsys)
    assert rewarded["comparisons"] == len(compared)
    assert work.store.verify() == []


def test_chains_are_kept_whole_and_read_back(work: Workspace) -> None:
    config = c.ReviseStepConfig(model="model", constitution="rules.toml", max_new_tokens=8, rounds=3)
    run, chains = c.revise(work, config)
    assert all(len(chain.steps) == 3 for chain in chains)
    assert [asdict(one) for one in c.read_chains(run.path / c.CHAINS)] == [asdict(one) for one in chains]
    kept = json.loads((run.path / "constitution.json").read_text())
    assert [one["name"] for one in kept["principle"]] == ["mild", "brief"]


def test_a_run_that_broke_off_goes_on_to_the_same_chains(
    work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(c, "CHUNK", 4)
    config = c.ReviseStepConfig(model="model", constitution="rules.toml", max_new_tokens=8)
    _, whole = c.revise(work, config.model_copy(update={"seed": 0, "limit": 12}))

    def stop(metrics: dict[str, float]) -> None:
        if metrics["step"] == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        c.revise(work, config, progress=stop)
    broken = work.store.runs(c.REVISE)[-1]
    with (broken.path / c.CHAINS).open("a") as file:
        file.write('{"id": "torn')
    asked: list[float] = []
    run, chains = c.revise(work, config, resume=True, progress=lambda m: asked.append(m["step"]))
    assert run.id == broken.id
    assert run.status is Status.DONE
    assert asked == [12], "the eight that were written are not made again"
    assert chains == whole
    assert list(c.read_chains(run.path / c.CHAINS)) == whole
    with pytest.raises(StoreError, match="no unfinished"):
        c.revise(work, config, resume=True)


def test_what_a_file_cannot_split_and_where_a_kill_can_tear_it(work: Workspace) -> None:
    """Line separators inside of texts, a prompt with an id of its own, and half a character at the end."""
    prompts = [Prompt.from_text(f"what is {i} ?", id=f"own {i}") for i in range(3)]
    chains = [Chain(p, "so\u2028it\u0085is \u00e9", (Step("mild", "it\u2029", "that"),)) for p in prompts]
    path = work.path / "chains.jsonl"
    whole = "".join(json.dumps(as_row(one), ensure_ascii=False) + "\n" for one in chains).encode()
    path.write_bytes(whole + '{"id": "é'.encode()[:-1])
    assert c._read_back(path, prompts) == chains
    assert path.read_bytes() == whole
    with pytest.raises(StoreError, match="other prompts"):
        c._read_back(path, prompts[::-1])


def test_a_text_that_is_too_long_is_counted_and_ends_nothing(work: Workspace) -> None:
    long = Prompt.from_text("it is that thing " * 200)
    work.store.add_prompts([long], "train")
    config = c.ReviseStepConfig(model="model", constitution="rules.toml", max_new_tokens=8)
    run, chains = c.revise(work, config)
    assert len(chains) == 13
    assert [chain.prompt.id for chain in chains if not chain.response] == [long.id]
    assert run.metrics["cut"] >= 1
    prompts = work.store.prompts("train")
    work.store.add_groups([(p, [Completion("it is that " * 300), Completion("so")]) for p in prompts[:1]])
    work.store.add_groups([(p, [Completion("it is"), Completion("that")]) for p in prompts[1:9]])
    asked = c.ConstitutePreferConfig(
        judge="judge", constitution="rules.toml", question=QUESTION, most_flipped=1
    )
    run, _ = c.prefer(work, asked)
    assert (run.metrics["pairs"], run.metrics["comparisons"], run.metrics["unusable"]) == (9, 8, 1)


def test_the_template_and_the_weights_form_hold_for_responses_too(work: Workspace) -> None:
    config = c.ReviseStepConfig(model="model", constitution="rules.toml", max_new_tokens=8, limit=4)
    chat, plain = (
        c.revise(work, config.model_copy(update={"template": template}))[1]
        for template in (None, Template.PLAIN)
    )
    assert [one.response for one in chat] != [one.response for one in plain]


def test_helpful_answers_are_those_of_the_model_as_it_was(work: Workspace) -> None:
    config = c.SuperviseStepConfig(model="model", helpful="train", max_new_tokens=64, helpful_share=0.5)
    policy = config.load()
    found = c._helpful(work, policy, config, 6)
    prompts = work.store.prompts("train")[:6]
    sampling = SamplingConfig(max_new_tokens=64, seed=0)
    answers = [group[0] for group in Engine(config.load(), sampling).sample(prompts)]
    wanted = [(p.id, a.text) for p, a in zip(prompts, answers, strict=True) if a.stop != "length"]
    assert [(p.id, a.text) for p, a in found] == wanted
    assert c._helpful(work, policy, config.model_copy(update={"helpful": ""}), 6) == []


def test_prompts_that_provoke_from_the_command_line(
    work: Workspace, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """One that is stored elsewhere already is left out; the answers are judged and what judged is
    recorded."""
    templates = tmp_path / "provoke.toml"
    templates.write_text('[templates]\nrude = ["what is {n} ?"]\nbad = ["so {n} it is"]\n'
                         '[slots]\nn = ["3", "that thing"]\n')  # fmt: skip
    words = ["constitute", "redteam", "--templates", str(templates), "--model", "model", *SMALL]
    found = accord(work, *words, capsys=capsys)
    assert (found["prompts"], found["new"]) == (3, 3)
    again = accord(work, *words, "--write", "2", capsys=capsys)
    assert again["new"] <= 2
    assert len(work.store.runs("constitute_redteam")[-1].inputs) == 2
    bad = tmp_path / "bad.toml"
    bad.write_text("[templates]\nrude = 3\n")
    accord(work, "constitute", "redteam", "--templates", str(bad), code=2, capsys=capsys)


def test_a_critic_of_its_own_makes_other_revisions_of_the_same_responses(work: Workspace) -> None:
    config = c.ReviseStepConfig(model="model", constitution="rules.toml", max_new_tokens=8)
    _, own = c.revise(work, config)
    _, others = c.revise(work, config.model_copy(update={"critic": "judge"}))
    assert [chain.response for chain in own] == [chain.response for chain in others]
    assert [chain.steps for chain in own] != [chain.steps for chain in others]


def test_a_bare_adapter_that_names_its_base_is_a_model(place: Path, tmp_path: Path) -> None:
    model = load_model(place / "model")
    model.add_lora(rank=4, seed=3)
    for name, weights in model.peft.named_parameters():
        if "lora_B" in name:
            weights.data.fill_(0.01)
    folder = place / "adapter"
    model.peft.peft_config["default"].base_model_name_or_path = "../model"
    model.peft.save_pretrained(folder)
    found = load_model(folder)
    assert found.adapter_hash() == model.adapter_hash()
    assert found.weights_hash() == load_model(place / "model").weights_hash()
    told = json.loads((folder / "adapter_config.json").read_text())
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "adapter_config.json").write_text(
        json.dumps({**told, "base_model_name_or_path": None})
    )
    with pytest.raises(Exception, match="names no base model"):
        load_model(tmp_path / "none")


def people(work: Workspace, sure: float = 1.0) -> None:
    """Comparisons as people would have made them: the longer is better."""
    prompts = work.store.prompts("train")
    made = [Comparison(p, Completion("it is that thing"), Completion("it"), sure) for p in prompts]
    with recorded(work, "agree", {}) as record:
        work.store.add_comparisons(made, record.run.id)


def test_a_judge_is_measured_against_people(work: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "constitute",
        "judge",
        "--judge",
        "judge",
        "--constitution",
        "rules.toml",
        "--question",
        QUESTION,
    ]
    with pytest.raises(DataError, match="no comparisons yet"):
        c.check_judge(work, c.ConstitutePreferConfig(judge="judge", constitution="rules.toml"))
    people(work)
    found = accord(work, *words, capsys=capsys)
    assert found["pairs"] == 12
    assert 0 <= found["agreement.mild"] <= 1
    report = json.loads((work.store.runs(c.JUDGE)[-1].path / "judge.json").read_text())
    assert set(report["principles"]) == {"mild", "brief"}
    assert report["pull_apart"][0]["pairs"] == 12


def test_a_judge_whose_thoughts_never_end_is_of_no_use(work: Workspace) -> None:
    people(work)
    config = c.ConstitutePreferConfig(judge="judge", constitution="rules.toml", question=QUESTION)
    c.check_judge(work, config, limit=4)
    with pytest.raises(DataError, match="none was usable"):
        c.check_judge(work, config.model_copy(update={"reason": True}), limit=4)


def test_pairs_people_are_not_sure_of_measure_nothing(work: Workspace) -> None:
    people(work, sure=0.6)
    with pytest.raises(DataError, match="people agree to 75%"):
        c.check_judge(work, c.ConstitutePreferConfig(judge="judge", constitution="rules.toml"))


def test_what_is_missing_is_said(work: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StoreError, match="no chains were made here yet"):
        c.supervise(work, c.SuperviseStepConfig(model="model"))
    with pytest.raises(ConfigError, match="no judge is named"):
        c.prefer(work, c.ConstitutePreferConfig(constitution="rules.toml"))
    prompt = work.store.prompts("train")[0]
    work.store.add_groups([(prompt, [Completion("a"), Completion("b")])])
    with pytest.raises(DataError, match="no completion is of the model 'other'"):
        c.prefer(work, c.ConstitutePreferConfig(judge="judge", of="other"))
    accord(work, "constitute", "polish", code=2, capsys=capsys)


def test_check_exits_with_what_it_found(
    work: Workspace, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["constitute", "check", "--json"])
    assert left.value.code == 0
    assert json.loads(capsys.readouterr().out)["findings"] == 0
    bad = tmp_path / "bad.toml"
    bad.write_text(RULES.replace('choose = "that?"', 'choose = "Choose the longer answer."')
                   .replace('choose = "is that?"', 'choose = "Choose the shorter answer."'))  # fmt: skip
    with pytest.raises(SystemExit) as left:
        main(["constitute", "check", str(bad), "--json"])
    said = capsys.readouterr()
    assert left.value.code == 1
    assert "contradiction: mild and brief" in said.err


def test_the_published_chains_are_read() -> None:
    real = real_data("constitutional/critique_revision_chains")
    path = real_file("constitutional/critique_revision_chains")
    chains = list(c.read_chains(path))
    assert len(chains) == len(real) == 66
    assert all(len(chain.steps) == 4 for chain in chains)
    assert all(chain.prompt.messages[-1].role == "user" for chain in chains)
    assert chains[0].response == real[0]["initial_response"]
    assert chains[-1].revision == real[-1]["steps"][-1]["revision"]


def test_choices_by_a_judge_behind_a_url_are_paid_once_though_the_run_broke_off(
    work: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit of requests, an answer cut off and one that is no JSON on the way; then the server goes
    down."""
    prompts = work.store.prompts("train")
    texts = ("it is that", "so it is", "that thing", "it")
    work.store.add_groups([(p, [Completion(f"{text} {i}") for text in texts]) for i, p in enumerate(prompts)])
    with chat_server(lambda said: choose(0.8 if "Answer A:\nit is" in said else 0.4)) as server:
        words = ["constitute", "prefer", "--judge", f"{server.url}#m", "--constitution", "rules.toml"]
        monkeypatch.setattr(phase_two, "CHUNK", 6)
        cut = completion("A", finish="length")
        server.told += [(200, {}, None)] * 9 + [
            (429, {"Retry-After": "0"}, ""),
            (200, {}, cut),
            (200, {}, "{oh"),
        ]
        server.told += [(200, {}, None)] * 12 + [(401, {}, "the account is empty")] * 40
        accord(work, *words, code=2, capsys=capsys)
        assert work.store.runs("constitute_prefer")[-1].status is Status.FAILED
        paid = len((work.path / "answers.jsonl").read_text().splitlines())
        server.told.clear()
        server.asked.clear()
        done = accord(work, *words, capsys=capsys)
        assert done["comparisons"] == 24
        assert paid > 12
        assert len(server.asked) + paid == 48, "each of 24 pairs in both orders is answered for once"
