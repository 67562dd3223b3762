"""Reading configurations and splitting into stages: no torch needed."""

import json

import pytest

from simdeep.errors import InputError
from simdeep.spec.model import load_model
from simdeep.spec.resources import resource_dir
from simdeep.validate.transformer import layers_of_stage, read_config, stage_problems


def shipped(**changes):
    text = (resource_dir("models") / "tiny-moe" / "config.json").read_text("utf-8")
    return {**json.loads(text), **changes}


def test_sizes_come_from_an_ordinary_config():
    assert read_config("tiny-moe").model == load_model("tiny-moe")
    assert read_config(shipped(rope_theta=500.0)).rope_theta == 500.0
    assert read_config("tiny-moe", {"num_hidden_layers": 3}).model.n_layers == 3


def test_every_problem_of_a_config_is_told():
    with pytest.raises(InputError) as caught:
        read_config(shipped(hidden_size=0, vocab_size=None))
    assert {problem.key for problem in caught.value.problems} == {"hidden_size", "vocab_size"}
    with pytest.raises(InputError, match="norm_topk_prob: 'yes', must be true or false"):
        read_config(shipped(norm_topk_prob="yes"))


def test_a_model_of_another_kind_is_refused():
    with pytest.raises(InputError, match="GPT2LMHeadModel has LayerNorm and learned positions"):
        read_config("gpt3-175b")


def test_stages_have_equally_many_layers():
    model = load_model("tiny-moe")
    parts = [layers_of_stage(model, i, 4) for i in range(4)]
    assert [*map(len, parts)] == [2, 2, 2, 2]
    assert [layer for part in parts for layer in part] == [*range(8)]
    with pytest.raises(ValueError, match="stage 4 of 4"):
        layers_of_stage(model, 4, 4)


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (9, "9 stages, must be at most its 8 layers"),
        (3, "8 layers do not split into 3 equal stages; 2 or 4 stages do"),
        (5, "8 layers do not split into 5 equal stages; 4 or 8 stages do"),
        (0, "0 stages, must be at least 1"),
    ],
)
def test_a_model_that_cannot_be_split(n, words):
    (problem,) = stage_problems(load_model("tiny-moe"), [n, n])
    assert words in problem.message
    with pytest.raises(InputError, match=words):
        layers_of_stage(load_model("tiny-moe"), 0, n)


def test_what_only_one_stage_can_hold():
    mtp = read_config(shipped(num_nextn_predict_layers=1)).model
    tied = read_config(shipped(tie_word_embeddings=True)).model
    assert stage_problems(mtp, [1]) == stage_problems(tied, [1]) == []
    assert "num_nextn_predict_layers=0" in stage_problems(mtp, [2])[0].message
    assert "tie_word_embeddings=false" in stage_problems(tied, [2])[0].message
