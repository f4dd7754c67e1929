"""What a policy is shown: its own tokens where there are any, text otherwise, cut by a stated rule."""

import pytest
from torch.testing import assert_close

from accord.align.answers import Reader, logprobs_of, measured
from accord.errors import DataError
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.model import LanguageModel
from accord.lm.tiny import EOS, write_tiny
from accord.types import Completion, Prompt, Stop
from toys import GOOD, OTHER

PROMPT = Prompt.from_text('!"!')


def test_text_is_tokenised_with_an_end_token(toy):
    answer = Reader(toy())(PROMPT, Completion('!"'))
    assert answer.ids[answer.start :] == (GOOD, OTHER, EOS)
    assert answer.ids[: answer.start][-3:] == (GOOD, OTHER, GOOD)


def test_sampled_tokens_stay_as_they_were(toy):
    policy = toy()
    engine = Engine(policy, SamplingConfig(max_new_tokens=4, seed=1))
    read = Reader(policy)
    seen = set()
    for prompt in [Prompt.from_text("!" * n) for n in range(1, 6)]:
        (group,) = engine.sample([prompt], 8)
        for completion in group:
            answer = read(prompt, completion)
            assert answer.ids[: answer.start] == completion.origin.prompt_ids
            assert answer.ids[answer.start :] == completion.ids
            seen.add(completion.stop)
    assert seen == {Stop.EOS, Stop.LENGTH}  # a cut one got no end token


@pytest.mark.parametrize(
    ("ids", "stop"),
    [((OTHER, EOS), Stop.EOS), ((GOOD, 200), Stop.EOS), ((GOOD,), Stop.EOS), ((), Stop.GIVEN)],
)
def test_tokens_of_another_model_are_read_by_their_text(toy, ids, stop):
    """Other text, outside the vocabulary, ended by another's end token, none at all."""
    answer = Reader(toy())(PROMPT, Completion("!", ids, stop=stop))
    assert answer.ids[answer.start :] == (GOOD, EOS)


def test_a_decoder_loses_the_prompts_beginning_first_and_then_the_completions_end(toy):
    policy = toy()
    whole = Reader(policy)(PROMPT, Completion("!!!"))
    assert (len(whole.ids), whole.start, whole.cut) == (8, 4, 0)  # a frame of one token before the prompt
    fits = Reader(policy, 6)(PROMPT, Completion("!!!"))
    assert (fits.ids, fits.start, fits.cut) == (whole.ids[2:], 2, 2)
    tight = Reader(policy, 3)(PROMPT, Completion("!!!"))
    assert (tight.ids, tight.start, tight.cut) == (whole.ids[3:6], 1, 5)


def test_each_half_of_an_encoder_decoder_has_the_length_to_itself(toy):
    answer = Reader(toy("t5"), 3)(PROMPT, Completion("!!!"))
    assert (answer.start, answer.cut) == (3, 1 + 1)  # four and four tokens
    assert answer.ids[:3] == (OTHER, GOOD, EOS)


def test_no_tokens_are_refused(tmp_path):
    policy = LanguageModel.load(write_tiny(tmp_path, "llama"))
    policy.tokenizer.eos_token = None
    with pytest.raises(DataError, match="no tokens"):
        Reader(policy).completion(Completion("", id="empty"))


@pytest.mark.parametrize("kind", ["llama", "gpt2", "t5"])
def test_a_batch_changes_no_log_prob(toy, kind):
    policy = toy(kind)
    read = Reader(policy)
    answers = [read(Prompt.from_text(p), Completion(c)) for p in ("!", '"!!"') for c in ("!", '""!', "")]
    alone = [logprobs_of(policy, [answer])[0][0] for answer in answers]
    together, tokens = logprobs_of(policy, answers)
    assert_close(together.detach(), measured(policy, answers, rows=2), atol=1e-5, rtol=0)
    for one, other in zip(alone, together, strict=True):
        assert_close(one, other, atol=1e-5, rtol=0)
    assert tokens.tolist() == [2, 4, 1, 2, 4, 1]
