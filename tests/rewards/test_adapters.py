import math
from dataclasses import replace

import pytest

from agent.action import Action
from rewards.adapters import TRLReward, to_trl, trl_reward
from rewards.compose import RewardTerm, build_rewards
from rewards.registry import REWARDS
from tests.rewards.builders import QUESTION, answer, context, group, search, trajectory


class LetterTokenizer:
    """Id 3 is "c"; id 0 is a special token."""

    def decode(self, token_ids, *, skip_special_tokens: bool) -> str:
        return "".join("<s>" if i == 0 else chr(ord("`") + i) for i in token_ids if i or not skip_special_tokens)


def brevity(prompts, completions, completion_ids, golden_answers, **kwargs):
    """Named like TRL's: shorter is better, None where nothing was said."""
    assert len(prompts) == len(completions) == len(completion_ids) == len(golden_answers) == len(kwargs["id"])
    return [None if not text else 1 / len(text) for text in completions]


def matches(completions, ground_truth):
    return [float(truth == ["Oskel"]) for truth in ground_truth]


QUESTIONS = {"q": QUESTION}


def test_texts_columns_and_none() -> None:
    seen = {}

    def spy(prompts, completions, **columns):
        seen.update(columns, prompts=prompts, completions=completions)
        return [0.25, None, 2][: len(prompts)]

    unit = group(trajectory(search(["a"]), answer("Oskel")), trajectory(finish="token_limit", sample=1))
    scores = TRLReward(spy, LetterTokenizer())(unit, QUESTIONS)
    assert scores.outcome[0] == 0.25 and math.isnan(scores.outcome[1])
    assert all(math.isnan(v) for v in scores.turn[0])
    assert seen["prompts"] == ["ab", "ab"]
    assert seen["completions"] == ["cdecd", ""]  # action, observation, action
    assert seen["completion_ids"] == [[3, 4, 5, 3, 4], []]
    assert seen["question"] == [QUESTION.text] * 2
    assert seen["golden_answers"] == [["Oskel"]] * 2 and seen["supporting_ids"] == [["a", "b"]] * 2


def test_actions_only_leaves_observations_out() -> None:
    unit = group(trajectory(search(["a"]), answer("Oskel")))
    assert TRLReward(brevity, LetterTokenizer(), actions_only=True)(unit, QUESTIONS).outcome.tolist() == [1 / 4]
    assert TRLReward(brevity, LetterTokenizer())(unit, QUESTIONS).outcome.tolist() == [1 / 5]


def test_the_wording_that_was_asked_is_the_question_column() -> None:
    question = replace(QUESTION, paraphrases=("Where did Lomira's founder grow up?",))
    asked = replace(trajectory(answer("Oskel")), view=1)

    def wording(question, **kwargs):
        return [float(text.startswith("Where did")) for text in question]

    assert TRLReward(wording, LetterTokenizer())(group(asked), {"q": question}).outcome.tolist() == [1.0]


def test_columns_are_renamed_and_needed() -> None:
    reward = TRLReward(matches, LetterTokenizer(), columns={"ground_truth": "golden_answers"})
    assert reward.name == "matches" and reward.needs == {"golden_answers"}
    unit = group(trajectory(answer("Oskel")))
    assert reward(unit, QUESTIONS).outcome.tolist() == [1.0]
    assert math.isnan(reward(unit, {"q": replace(QUESTION, golden_answers=())}).outcome[0])


def test_outages_are_not_passed_on() -> None:
    batches = []

    def count(prompts, **kwargs):
        batches.append(len(prompts))
        return [1.0] * len(prompts)

    lost = trajectory(search(["a"]), finish="engine_failure", sample=1)
    reward = TRLReward(count, LetterTokenizer())
    assert math.isnan(reward(group(trajectory(answer("x")), lost), QUESTIONS).outcome[1])
    assert math.isnan(reward(group(lost), QUESTIONS).outcome[0])
    assert batches == [1]


def test_a_wrong_function_is_refused_with_the_way_out() -> None:
    async def later(prompts, **kwargs):
        return [0.0]

    with pytest.raises(ValueError, match=r"asks for the columns \['ground_truth'\].*Say what they are with `columns`"):
        TRLReward(matches, LetterTokenizer())
    with pytest.raises(ValueError, match="'later' is asynchronous"):
        TRLReward(later, LetterTokenizer())
    with pytest.raises(ValueError, match="has to be callable, got 'accuracy'"):
        TRLReward("accuracy", LetterTokenizer())
    with pytest.raises(ValueError, match=r"\['rubric'\] are not fields of Question"):
        TRLReward(brevity, LetterTokenizer(), needs=("rubric",))
    with pytest.raises(ValueError, match="returned 3 rewards for 1 completions"):
        TRLReward(lambda **kwargs: [1, 2, 3], LetterTokenizer())(group(trajectory(answer("x"))), QUESTIONS)


def test_an_infinite_trl_reward_is_refused_at_the_boundary() -> None:
    with pytest.raises(ValueError, match="infinite"):
        TRLReward(lambda **kwargs: [math.inf], LetterTokenizer())(group(trajectory(answer("x"))), QUESTIONS)


def test_in_a_config_with_a_real_tokenizer(tmp_path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<unk>": 0, "one": 1, "two": 2, "three": 3, "four": 4}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>").save_pretrained(tmp_path)
    term = RewardTerm(
        use="rewards.adapters:trl_reward",
        params={"function": "tests.rewards.test_adapters:brevity", "tokenizer": str(tmp_path), "actions_only": True},
    )
    composition = build_rewards({"brevity": term}, context())
    scores = composition.score(group(trajectory(answer("Oskel"))), QUESTIONS)
    assert scores["brevity"].outcome.tolist() == [1 / len("three four")]
    with pytest.raises(ValueError, match="no TRL reward function is named 'brevity'"):
        trl_reward(context(), function="brevity", tokenizer=str(tmp_path))


SAY_NOTHING_HERE = {"agreement", "consistency", "judgement", "reflection"}
"""Rewards of several wordings, and of statements, neither of which these episodes have."""


@pytest.mark.parametrize("name", sorted(REWARDS))
def test_to_trl_scores_trajectories_like_the_reward_itself(name: str) -> None:
    reward = REWARDS[name](context())
    batch = [
        trajectory(search(["a"]), answer("Oskel", (1,)), unit="u"),
        trajectory(search(["b"]), answer("London"), unit="v"),
        trajectory(search(["a"]), finish="retrieval_outage", unit="u", sample=1),
    ]
    function = to_trl(reward, questions=QUESTIONS)
    assert function.__name__ == name
    values = function(prompts=["p"] * 3, completions=["c"] * 3, trajectory=batch, trainer_state=None)
    assert values[2] is None
    for value, t in zip(values[:2], batch[:2], strict=True):
        scores = reward(group(t), QUESTIONS)
        parts = [v for v in (*scores.turn[0], scores.outcome[0]) if not math.isnan(v)]
        assert value == (pytest.approx(sum(parts)) if parts else None)
        if name not in SAY_NOTHING_HERE:
            assert parts


def test_out_and_in_again_gives_the_same_outcomes() -> None:
    reward = REWARDS["f1"](context())
    unit = group(
        trajectory(answer("Oskel")),
        trajectory(answer("the Oskel harbour"), sample=1),
        trajectory(search(["a"]), finish="engine_failure", sample=2),
    )
    there_and_back = TRLReward(to_trl(reward, questions=QUESTIONS), LetterTokenizer())
    plain, returned = reward(unit, QUESTIONS).outcome, there_and_back(unit, QUESTIONS).outcome
    assert returned[:2].tolist() == plain[:2].tolist() and math.isnan(returned[2])


def parse(text: str) -> Action:
    return Action(kind="answer", answer=text[1:-1]) if text.startswith("[") else Action(kind="invalid", error="no")


def test_to_trl_reads_completions_as_single_turns() -> None:
    function = to_trl(REWARDS["exact_match"](context()), parse=parse)
    values = function(
        prompts=["p"] * 4,
        completions=["[Oskel]", "Oskel", [{"role": "assistant", "content": "[the Oskel]"}], "[Oskel]"],
        golden_answers=[["Oskel"], ["Oskel"], ["Oskel"], []],
    )
    assert values == [1.0, 0.0, 1.0, None]


def test_to_trl_without_trajectories_or_a_parser_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="return them from the rollout_func as `trajectory`"):
        to_trl(REWARDS["f1"](context()))(prompts=["p"], completions=["c"], golden_answers=[["x"]])
