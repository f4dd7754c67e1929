"""The command line as a user meets it: the whole path on tiny models, and every kind of bad input."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from accord.cli import main
from accord.feedback.labeling import people
from accord.lm.tiny import write_tiny
from accord.workspace import Workspace


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("models") / "llama", "llama", chat=True)


@pytest.fixture
def run(capsys):
    def call(*argv: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in argv])
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return call


def figures(out: str) -> dict:
    return json.loads(out.splitlines()[-1])


@pytest.fixture
def workspace(tmp_path, run):
    folder = tmp_path / "w"
    assert run("init", folder)[0] == 0
    rows = [{"prompt": f"question {i}?"} for i in range(8)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = [
        {"prompt": f"question {i}?", "chosen": f"good answer {i % 5}", "rejected": f"bad answer {i % 7}"}
        for i in range(30)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    return folder


ALIGN = ("--steps", 3, "--prompts-per-step", 4, "--minibatch", 4, "--max-new-tokens", 6, "--epochs", 1)


def test_the_whole_path(run, workspace, tmp_path, tiny):
    w = ("-w", workspace, "--json")
    code, out, _ = run("import", tmp_path / "prompts.jsonl", "--split", "train", *w)
    assert (code, figures(out)["prompts"]) == (0, 8)
    code, out, _ = run("import", tmp_path / "pairs.jsonl", *w)
    assert figures(out)["rankings"] == 30
    code, out, _ = run("sample", "--model", tiny, "--n", 2, "--max-new-tokens", 6, "--split", "train", *w)
    assert figures(out)["completions"] == 16
    again = figures(
        run("sample", "--model", tiny, "--n", 2, "--max-new-tokens", 6, "--split", "train", *w)[1]
    )
    assert again["completions"] == 0, "prompts that have their completions are left alone"
    assert figures(run("agree", *w)[1])["comparisons"] == 30
    code, out, _ = run("reward", "--base", tiny, "--learning-rate", 1e-3, "--epochs", 3, *w)
    assert 0 <= figures(out)["accuracy"] <= 1
    code, out, _ = run("align", "--model", tiny, "--split", "train", *ALIGN, *w)
    aligned = figures(out)
    assert (code, aligned["steps"], aligned["end"]) == (0, 3, "all steps done")
    code, out, _ = run("evaluate", "--model", tiny, "--split", "train", "--max-new-tokens", 6, *w)
    report = figures(out)["report"]
    assert "<html" in Path(report).read_text()
    assert figures(run("export", tmp_path / "out.jsonl", *w)[1])["rows"] > 60
    code, out, _ = run("doctor", *w)
    assert (code, figures(out)["problems"]) == (0, 0)
    code, out, _ = run("doctor", aligned["model"], "--json")
    assert (code, figures(out)["failed"]) == (0, 0)
    # a file of a run changed behind accord's back is found
    (workspace / "models" / aligned["run"] / "config.json").write_text("{}")
    code, _, err = run("doctor", *w)
    assert code == 1
    assert "policy" in err or aligned["run"] in err


def test_sampled_completions_are_ranked_by_people_and_come_back(run, workspace, tmp_path, tiny):
    w = ("-w", workspace)
    run("import", tmp_path / "prompts.jsonl", *w)
    run("sample", "--model", tiny, "--n", 3, "--max-new-tokens", 6, *w)
    sheet, filled = tmp_path / "tasks.jsonl", tmp_path / "filled.jsonl"
    code, out, _ = run("export", sheet, "--format", "tasks", *w, "--json")
    assert (code, figures(out)["rows"]) == (0, 8)
    rows = [json.loads(line) for line in sheet.read_text().splitlines()]
    for row in rows[:6]:
        row |= {"tiers": [[2], [0]], "fails": [1], "labeler": "ann"}
    filled.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, _ = run("import", filled, *w, "--json")
    assert (code, figures(out)["rankings"]) == (0, 6)
    store = Workspace.open(workspace).store
    assert store.counts()["completions"] == 24, "the file's completions are those that were sampled"
    first = next(iter(store.rankings()))
    assert first.tiers == ((rows[0]["completion_ids"][2],), (rows[0]["completion_ids"][0],))
    assert figures(run("agree", *w, "--json")[1])["comparisons"] == 18
    rows[0]["completions"][0] += " changed"
    filled.write_text(json.dumps(rows[0]) + "\n")
    code, _, err = run("import", filled, *w)
    assert code == 2
    assert "a text must not be changed" in " ".join(err.split())


def test_imported_comparisons_come_out_again(run, workspace, tmp_path):
    w = ("-w", workspace)
    rows = [{"prompt": f"q{i}", "chosen": "a", "rejected": "b", "p_chosen": 0.75} for i in range(4)]
    (tmp_path / "soft.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run("import", tmp_path / "soft.jsonl", *w)
    run("export", tmp_path / "trl.jsonl", "--format", "trl-preference", *w)
    out = [json.loads(line) for line in (tmp_path / "trl.jsonl").read_text().splitlines()]
    assert [(row["prompt"], row["p_chosen"]) for row in out] == [(f"q{i}", 0.75) for i in range(4)]
    run("export", tmp_path / "log.jsonl", *w)
    other = tmp_path / "other"
    run("init", other)
    assert figures(run("import", tmp_path / "log.jsonl", "-w", other, "--json")[1])["comparisons"] == 4


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("aline",), "did you mean `accord align`"),
        (("import", "nothing.jsonl"), "no such file"),
        (("agree",), "no rankings yet"),
        (("reward", "--base", "x"), "no comparisons yet"),
        (("reward",), "no base model is named"),
        (("sample",), "no prompts"),
        (("align", "--model", "x"), "no prompts"),
        (("export", "out.csv", "--format", "nosuch"), "unknown format"),
        (("agree", "--margin", "0.9"), "margin = 0.9: Input should be less than 0.5"),
    ],
)
def test_bad_input_is_one_line_and_code_2(run, tmp_path, argv, says, monkeypatch):
    assert run("init", tmp_path / "w")[0] == 0
    monkeypatch.chdir(tmp_path / "w")
    code, _, err = run(*argv)
    assert code == 2
    assert says in " ".join(err.split())
    assert "Traceback" not in err
    assert "pydantic" not in err


def test_agree_gives_every_figure_or_the_reason_why_not(run, workspace, tmp_path, monkeypatch):
    rows = [{"prompt": f"q{i}?", "chosen": "good", "rejected": "bad"} for i in range(3)]
    (tmp_path / "one.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run("import", tmp_path / "one.jsonl", "-w", workspace)
    monkeypatch.setenv("COLUMNS", "100")
    code, out, _ = run("agree", "-w", workspace)
    assert code == 0
    shown = " ".join(out.split())
    for name in ("two labelers say the same", "alpha, of ranks", "alpha, of pairs", "Kendall's W"):
        assert name in shown
    assert shown.count("no pair was judged by") == 2
    assert shown.count("alpha is undefined: nothing was judged") == 2
    assert "no prompt was ranked by two labelers" in shown
    assert "dropped.margin 0" in shown


def test_samples_that_coincide_are_not_drawn_again(run, workspace, tmp_path, tiny):
    w = ("-w", workspace, "--json")
    run("import", tmp_path / "prompts.jsonl", *w)
    # top-k 1 leaves no choice: the three samples of a prompt are one text
    argv = ("sample", "--model", tiny, "--n", 3, "--max-new-tokens", 4, "--top-k", 1, *w)
    assert figures(run(*argv)[1])["completions"] == 8
    again = figures(run(*argv)[1])
    assert (again["completions"], again["tokens"]) == (0, 0)
    more = figures(run(*argv[:4], 5, *argv[5:])[1])
    assert more["tokens"] > 0
    assert more["completions"] == 0, "drawn, and nothing new"


def test_errors_name_value_and_remedy(run, workspace, tmp_path, tiny):
    w = ("-w", workspace)
    run("import", tmp_path / "prompts.jsonl", *w)
    for argv, says in [
        (("align", "--model", tiny, "--minibatch", 64), "minibatch 64 is larger than the 32"),
        (("evaluate", "--model", tmp_path / "no", "--after", tmp_path / "no"), "there is no such folder"),
        (("align", "--model", tiny), "no reward model yet"),
        (("sample",), "no model is named"),
        (("evaluate", "--model", tiny), "no aligned model"),
        (("sample", "--model", tiny, "--max-new-tokens", 100_000), "tokens"),
    ]:
        code, _, err = run(*argv, *w)
        assert code == 2, (argv, err)
        assert says in " ".join(err.split()), (argv, err)


def test_settings_file_is_read_and_checked(run, workspace, tmp_path, tiny):
    run("import", tmp_path / "prompts.jsonl", "-w", workspace)
    toml = (workspace / "accord.toml").read_text()
    (workspace / "accord.toml").write_text(toml.replace("[sample]", f'[sample]\nmodel = "{tiny}"\nn = 3'))
    code, out, _ = run("sample", "--max-new-tokens", 4, "-w", workspace, "--json")
    assert figures(out)["completions"] == 24
    (workspace / "accord.toml").write_text(toml.replace("[sample]", "[sample]\ntemprature = 0.5"))
    code, _, err = run("sample", "-w", workspace)
    assert code == 2
    assert "did you mean 'temperature'" in " ".join(err.split())


def test_init_overwrites_nothing(run, workspace):
    before = (workspace / "guidelines.md").read_text()
    code, _, err = run("init", workspace)
    assert code == 2
    assert "overwrites nothing" in " ".join(err.split())
    assert (workspace / "guidelines.md").read_text() == before


def test_ctrl_c_then_resume(run, workspace, tmp_path, tiny):
    w = ("-w", workspace)
    run("import", tmp_path / "prompts.jsonl", *w)
    run("import", tmp_path / "pairs.jsonl", *w)
    run("agree", *w)
    run("reward", "--base", tiny, *w)
    argv = ["align", "--model", tiny, *ALIGN[2:], "--steps", 200, *w, "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "accord.cli", *map(str, argv)],
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    log = workspace / "runs" / "align-1" / "training" / "metrics.jsonl"
    for _ in range(3000):  # a slow machine has five minutes
        if log.exists() and log.read_text().count("\n") >= 2:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 130
    done = figures(out.decode())["steps"]
    assert 2 <= done < 200
    code, _, err = run("align", "--model", tiny, *ALIGN[2:], "--steps", done + 1, *w, "--resume")
    assert code == 2, "other settings are another run"
    assert "no unfinished align run" in " ".join(err.split())
    process = subprocess.Popen([sys.executable, "-m", "accord.cli", *map(str, argv), "--resume"])
    for _ in range(3000):  # a slow machine has five minutes
        if log.read_text().count("\n") > done:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=300)
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) > done


def test_help_and_version(run):
    assert "accord align" in run("--help")[1]
    assert "--kl-target" in run("align", "--help")[1]
    for verb in ("align", "evaluate", "study"):
        assert "{log-odds,logit}" in run(verb, "--help")[1]
    assert run("--version")[1].startswith("accord ")


# -- the labelling app -------------------------------------------------------------------------


def test_label_says_what_is_missing(run, tmp_path):
    folder = tmp_path / "w"
    assert run("init", folder)[0] == 0
    code, _, err = run("label", "-w", folder)
    assert code == 2
    assert "nothing can be labelled" in err
    assert "accord import" in err
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "why?"}\n')
    run("import", tmp_path / "prompts.jsonl", "-w", folder)
    code, _, err = run("label", "-w", folder)
    assert (code, "accord sample" in err) == (2, True)


def test_label_says_when_the_port_is_taken(run, workspace, tmp_path):
    run("import", tmp_path / "pairs.jsonl", "-w", workspace)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, _, err = run("label", "-w", workspace, "--port", port)
    assert code == 2
    assert f"port {port} is taken" in err
    code, _, err = run("label", "-w", workspace, "--host", "203.0.113.7", "--port", 0)
    assert (code, "cannot listen on 203.0.113.7" in err) == (2, True)


def test_label_lets_people_in_by_links_and_programs_by_tokens(run, workspace):
    w = ("-w", workspace, "--json")
    code, out, _ = run("label", "invite", "--uses", 3, "--url", "https://labels.example.org/", *w)
    assert code == 0
    given = figures(out)
    assert given["link"].startswith("https://labels.example.org/join/accord-invite-")
    assert (given["role"], given["uses"], given["days"]) == ("labeler", 3, 7.0)
    (workspace / "accord.toml").write_text("[label]\nport = 9999\n")
    assert figures(run("label", "invite", *w)[1])["link"].startswith("http://localhost:9999/join/")
    (workspace / ".label-address").write_text("http://localhost:8137\n")  # as the app leaves it
    assert figures(run("label", "invite", *w)[1])["link"].startswith("http://localhost:8137/join/")
    (workspace / "accord.toml").write_text('[label]\nurl = "https://labels.example.org/"\n')
    assert figures(run("label", "invite", *w)[1])["link"].startswith("https://labels.example.org/join/")
    assert run("label", "token", "bot", *w)[0] == 2
    token = figures(run("label", "token", "bot", "--role", "labeler", *w)[1])["token"]
    store = Workspace.open(workspace).store
    assert people.person_of_token(store, token, time.time()).name == "bot"
    assert figures(run("label", "token", "bot", *w)[1])["token"] != token
    code, _, err = run("label", "token", "bot", "--role", "owner", *w)
    assert (code, "is labeler, not owner" in err) == (2, True)
    link = figures(run("label", "link", "bot", *w)[1])["link"].rsplit("/", 1)[-1]
    assert people.invitation(store, link, time.time()).person.name == "bot"
    for bad, words in (
        (("link", "nobody"), "nobody"),
        (("invite", "bob"), "leave the name out"),
        (("invite", "--uses", 0), "uses is 0"),
        (("invite", "--days", 0), "days is 0"),
        (("invite", "--url", "labels.example.org"), "url"),
        (("token", "bot", "--days=-3"), "days is -3"),
        (("token", "new", "--role", "labeler", "--days", 0), "days is 0"),
        (("token", "bot", "--uses", 2), "takes no --uses"),
        (("link", "bot", "--days", 30), "takes no --days"),
        (("link", "bot", "--role", "owner"), "takes no --role"),
    ):
        code, out, err = run("label", *bad, *w)
        assert (code, out, words in " ".join(err.split())) == (2, "", True), (bad, err)
    assert [each.name for each in people.people(store)] == ["bot"]


def test_label_serves_until_it_is_interrupted(workspace, tmp_path, run):
    """As people do: start it, open the owner's link, look at the project, stop it."""
    run("import", tmp_path / "pairs.jsonl", "-w", workspace)
    command = [sys.executable, "-m", "accord.cli", "label", "-w", str(workspace), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            opened = json.loads(server.stdout.readline())
            assert opened["prompts"] == 30
            invited = figures(run("label", "invite", "-w", workspace, "--json")[1])["link"]
            assert invited.startswith(f"{opened['address']}/join/"), "the port the app was given"
            with httpx.Client(base_url=opened["address"], timeout=60) as browser:
                entered = browser.post(opened["owner"])
                assert (entered.status_code, entered.headers["location"]) == (303, "/")
                assert "server" not in entered.headers
                page = browser.get("/owner", headers={"accept": "text/html"})
                assert page.status_code == 200
            server.send_signal(signal.SIGINT)
            _, err = server.communicate(timeout=60)
        finally:
            server.kill()
    assert server.returncode == 0, err
    assert "stopped" in err
    assert "Traceback" not in err


# -- the live page -----------------------------------------------------------------------------


def test_align_serves_a_page_of_itself_and_watch_one_of_what_was(run, workspace, tmp_path, tiny):
    """Training with its page, whose viewer hears every step and the end; the same run looked at later."""
    w = ("-w", workspace)
    run("import", tmp_path / "prompts.jsonl", *w)
    (workspace / "slow.py").write_text(
        "import time\n\n\ndef pay(prompt, completion):\n    time.sleep(0.2)\n    return 1.0\n"
    )
    (workspace / "rewards.toml").write_text('[slow]\nfunction = "slow:pay"\n')
    argv = ["align", "--model", tiny, *ALIGN, "--reward", "rewards.toml", "--watch-port", 0, *w, "--json"]
    command = [sys.executable, "-m", "accord.cli", *map(str, argv)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as training:
        try:
            address = training.stderr.readline().strip().removeprefix("watch it live: ")
            with httpx.stream("GET", f"{address}/events", timeout=60) as events:
                told = [line for line in events.iter_lines() if line.startswith(("data", "event"))]
            out, err = training.communicate(timeout=60)
        finally:
            training.kill()
    assert training.returncode == 0, err
    assert figures(out)["steps"] == 3, "standard output holds the figures alone"
    assert told[-2:] == ["event: bye", "data: {}"]
    assert '"step": 3' in "".join(told)
    assert '"end": "all steps done"' in told[-3]

    (workspace / "accord.toml").write_text("[watch]\nport = 0\n")
    command = [sys.executable, "-m", "accord.cli", "watch", "-w", str(workspace), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            opened = json.loads(server.stdout.readline())
            kept = httpx.get(f"{opened['address']}/samples/3").json()
            server.send_signal(signal.SIGINT)
            _, err = server.communicate(timeout=60)
        finally:
            server.kill()
    assert (server.returncode, "Traceback" in err) == (0, False), err
    assert opened["run"] == "align-1"
    assert [row["pick"] for row in kept] == ["best paid", "drawn", "drawn"], "all were paid alike"


def test_a_page_or_tracker_that_cannot_be_is_refused_before_the_model_is_loaded(run, workspace, monkeypatch):
    w = ("--model", "no-such-model", "-w", workspace)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, _, err = run("align", "--watch-port", port, *w)
    assert (code, f"port {port} is taken" in err) == (2, True)
    monkeypatch.setitem(sys.modules, "wandb", None)
    code, _, err = run("align", "--track", "wandb", *w)
    assert (code, "pip install 'accord[wandb]'" in " ".join(err.split())) == (2, True)
    code, _, err = run("align", "--algorithm", "dpo", "--watch", *w)
    assert (code, "reinforcement learning alone" in err) == (2, True)
    code, _, err = run("watch", "-w", workspace)
    assert (code, "there is no run of alignment here" in err) == (2, True)
