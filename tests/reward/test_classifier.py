"""A ready-made classifier as reward: the raw logit of a label, and everything else beside it."""

import math

import pytest
import torch

from accord.errors import ConfigError, NumericsError
from accord.lm.classifier import Reads, SequenceClassifier
from accord.reward.classifier import ClassifierReward, Value, label_index
from accord.types import Completion, Prompt, Scorer

LABELS = {0: "nothate", 1: "hate", 2: "spam"}
PROMPT = Prompt.from_text("what do you think?")
TEXTS = [Completion(text) for text in ("lovely", "not nice at all", "buy this now, buy it", "x")]


@pytest.fixture
def hate(folder):
    return SequenceClassifier.load(
        folder("roberta", labels=3, id2label=LABELS, label2id={v: k for k, v in LABELS.items()}),
        reads=Reads.COMPLETION,
    )


def test_the_raw_logit_can_be_asked_for_and_the_parts_show_everything(hate):
    reward = ClassifierReward(hate, "hate", "logit")
    assert isinstance(reward, Scorer)
    with torch.no_grad():
        for text, score in zip(TEXTS, reward.score(PROMPT, TEXTS), strict=True):
            ids = torch.tensor([hate.tokenizer(text.text)["input_ids"]])
            logits = hate.net(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
            assert score.value == pytest.approx(float(logits[1]), abs=1e-5)
            for i, name in LABELS.items():
                assert score.parts[f"{name} logit"] == pytest.approx(float(logits[i]), abs=1e-5)
                assert score.parts[f"{name} p"] == pytest.approx(float(logits.softmax(0)[i]), abs=1e-5)
            assert len(score.parts) == 6


def planted(hate, rows, value=Value.LOGIT):
    """Let the classifier say ``rows`` to the texts, in order: the head's bias answers for the weights."""
    head = hate.net.classifier.out_proj
    with torch.no_grad():
        head.weight.zero_()
    out = []
    for row, text in zip(rows, TEXTS, strict=False):
        with torch.no_grad():
            head.bias.copy_(torch.tensor(row))
        out += ClassifierReward(hate, "nothate", value).score(PROMPT, [text])
    return out


def test_logit_and_probability_can_rank_two_texts_differently(hate):
    """Logits (3, 3, 0) and (2, -2, -2): the first has the larger logit, the second the larger p."""
    one, two = planted(hate, [[3.0, 3.0, 0.0], [2.0, -2.0, -2.0]])
    assert (one.value, two.value) == (3.0, 2.0)
    assert one.parts["nothate p"] == pytest.approx(1 / (2 + math.exp(-3)), abs=1e-6)
    assert two.parts["nothate p"] == pytest.approx(1 / (1 + 2 * math.exp(-4)), abs=1e-6)
    assert one.parts["nothate p"] < two.parts["nothate p"]


def test_log_odds_rank_as_the_probability_does(hate):
    """log p - log(1 - p) = l - logsumexp of the others: 3 - log(e^3 + 1) and 2 - log(2 e^-2)."""
    one, two = planted(hate, [[3.0, 3.0, 0.0], [2.0, -2.0, -2.0]], Value.LOG_ODDS)
    assert one.value == pytest.approx(3 - math.log(math.exp(3) + 1), abs=1e-5)
    assert two.value == pytest.approx(2 - math.log(2 * math.exp(-2)), abs=1e-5)
    for score in (one, two):
        p = score.parts["nothate p"]
        assert score.value == pytest.approx(math.log(p / (1 - p)), abs=1e-4)
    assert ClassifierReward(hate, "hate").value is Value.LOG_ODDS


def test_labels_that_do_not_exclude_each_other_have_probabilities_of_their_own(hate):
    hate.net.config.problem_type = "multi_label_classification"
    (score,) = planted(hate, [[2.0, 1.0, -1.0]])
    expected = [1 / (1 + math.exp(-x)) for x in (2.0, 1.0, -1.0)]
    assert [score.parts[f"{name} p"] for name in LABELS.values()] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("label", "index"), [("nothate", 0), ("NotHate", 0), ("HATE", 1), ("spam", 2)])
def test_labels_are_found_whatever_their_case(hate, label, index):
    assert label_index(hate.label_names, label) == index
    assert ClassifierReward(hate, label).label == index


def test_an_unknown_label_lists_those_there_are(hate):
    with pytest.raises(ConfigError, match=r"'toxic'.*nothate, hate, spam"):
        ClassifierReward(hate, "toxic")


def test_it_loads_by_name_and_reads_the_completion_alone(folder):
    path = folder("bert", labels=2, id2label={0: "no", 1: "yes"}, label2id={"no": 0, "yes": 1})
    reward = ClassifierReward.load(f"hf:{path}", "YES")
    other = Prompt.from_text("quite another question")
    assert reward.score(PROMPT, TEXTS) == reward.score(other, TEXTS)
    both = ClassifierReward.load(path, "yes", reads=Reads.BOTH)
    assert both.score(PROMPT, TEXTS) != both.score(other, TEXTS)


def test_groups_keep_their_shape_and_order(hate):
    reward = ClassifierReward(hate, "hate")
    grouped = reward.score_groups([(PROMPT, TEXTS[:3]), (PROMPT, []), (PROMPT, TEXTS[3:])])
    assert [len(group) for group in grouped] == [3, 0, 1]
    alone = [reward.score(PROMPT, [text])[0].value for text in TEXTS]
    assert [s.value for group in grouped for s in group] == pytest.approx(alone, abs=1e-5)
    assert reward.score_groups([]) == []


def test_damaged_weights_are_an_error(hate):
    with torch.no_grad():
        hate.net.classifier.out_proj.bias[2] = math.nan
    with pytest.raises(NumericsError, match="damaged"):
        ClassifierReward(hate, "hate").score(PROMPT, TEXTS)
