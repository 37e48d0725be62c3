"""A tiny random Llama and its tokenizer, saved as a model folder."""

from pathlib import Path

import torch
from palimpsest_stage.text import Layout
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    AutoModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level: 256 bytes and three special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<s>", "</s>", "<u>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<u>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<u>"
    )


def panicking(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The same tokenizer, but its engine of regular expressions gives up on many a's and a b."""
    rust = tokenizer.backend_tokenizer
    split = pre_tokenizers.Split(Regex("^ ?(a|aa|a+)+$"), "isolated")
    rust.pre_tokenizer = pre_tokenizers.Sequence([split, rust.pre_tokenizer])
    return tokenizer


def tiny_model(layers: int = 2, hidden: int = 32, tied: bool = True) -> LlamaForCausalLM:
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=259,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        tie_word_embeddings=tied,
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config).eval()


def tiny_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def tiny_classifier(folder: Path, labels: int = 1) -> Path:
    """A random Llama that classifies sequences; one label makes it a reward model."""
    folder.mkdir(parents=True)
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=259,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        num_labels=labels,
        initializer_range=0.2,
    )
    LlamaForSequenceClassification(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


LAYOUT = Layout(start=(0, 70, 71), separator=" ", end=1, max_length=40)


def examples(count: int, seed: int = 0) -> list[list[int]]:
    """Token rows of 1 to 37 tokens."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 37, (count,), generator=generator).tolist()
    return [[*torch.randint(3, 259, (n,), generator=generator).tolist(), 1] for n in lengths]


WORDS = [f"w{i}" for i in range(60)]


def tiny_encoder(folder: Path, kind: str = "bert") -> Path:
    """A random encoder over WORDS."""
    encoder_tokenizer().save_pretrained(folder)
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind,
        vocab_size=4 + len(WORDS),
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=64,
        pad_token_id=0,
    )
    AutoModel.from_config(config).save_pretrained(folder)
    return folder


def encoder_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, between a first and a last."""
    vocabulary = {t: i for i, t in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
