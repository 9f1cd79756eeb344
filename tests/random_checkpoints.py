"""Checkpoints with random weights, written by the official library, and its scores for them.

Tests compare with the official pipeline at batch size 1: at larger ones its scores depend on
the padding.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from gliclass import GLiClassModel, GLiClassModelConfig, ZeroShotClassificationPipeline
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    DebertaV2Config,
    ModernBertConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.models.auto import CONFIG_MAPPING

CONTROL_TOKENS = ["<<LABEL>>", "<<SEP>>", "<<EXAMPLE>>"]
HIDDEN = 32

# Where the tokenizers' vocabularies come from.
_TEXT = """A reranker reads the question and each passage together, and sorts the passages by how well they
answer it. Leaves turn light, water and air into sugar. Bread rises because yeast makes gas; in a cold kitchen
it takes longer. The chain of a bicycle wants oil, not grease: grease holds dust. How do I find north without a
compass? Point the hour hand at the sun. Über kurz oder lang, naïve café: 2.5 % of 1,000 is 25. def f(x):
return x  # two    spaces      and more. 東京は日本の首都です。 Привет, мир! numbers 0 1 2 3 4 5 6 7 8 9"""


def _wordpiece() -> PreTrainedTokenizerFast:
    """As BERT has it: lower case, [CLS] and [SEP] inside the vocabulary."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece())
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    starts, ends = _pieces(tokenizer)
    vocabulary = [*special, *starts, *(f"##{end}" for end in ends)]
    tokenizer.model = models.WordPiece({piece: i for i, piece in enumerate(vocabulary)}, unk_token="[UNK]")
    return _wrap(tokenizer, special)


def _byte_bpe() -> PreTrainedTokenizerFast:
    """As ModernBERT has it: byte-level BPE with runs of spaces as ordinary added tokens."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([_TEXT], trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet))
    tokenizer.add_special_tokens(special[:1])
    tokenizer.add_tokens([AddedToken(" " * n, normalized=True) for n in range(6, 1, -1)])
    return _wrap(tokenizer, special)


def _unigram(prepend_scheme: str) -> PreTrainedTokenizerFast:
    """As SentencePiece models have it; the vocabulary itself holds the special tokens' pieces."""
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend_scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=prepend_scheme)
    starts, ends = _pieces(tokenizer)
    vocabulary = [*special, *dict.fromkeys(starts + ends)]
    # Few pieces beat many, and no two ways to part a text score the same.
    tokenizer.model = models.Unigram([(piece, -10 - i / 1000) for i, piece in enumerate(vocabulary)], unk_id=3)
    return _wrap(tokenizer, special)


def _pieces(tokenizer: Tokenizer) -> tuple[list[str], list[str]]:
    """What the words of the text start and end with, single characters first.

    Trained vocabularies differ from run to run: the trainers of WordPiece and Unigram break ties at random.
    """
    text = tokenizer.normalizer.normalize_str(_TEXT)
    words = {word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)}
    characters = sorted({character for word in words for character in word})
    starts = sorted({word[:n] for word in words for n in range(2, len(word) + 1)})
    ends = sorted({word[n:] for word in words for n in range(1, len(word) - 1)})
    return characters + starts, characters + ends


def _wrap(tokenizer: Tokenizer, special: list[str]) -> PreTrainedTokenizerFast:
    tokenizer.add_special_tokens(special)
    ids = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=ids
    )
    names = {f"{token.strip('[]').lower()}_token": token for token in special}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.add_tokens(CONTROL_TOKENS, special_tokens=True)
    return fast


_TOKENIZERS = {
    "wordpiece": _wordpiece,
    "byte-bpe": _byte_bpe,
    "unigram": lambda: _unigram("always"),
    "unigram-first": lambda: _unigram("first"),
}
TOKENIZERS = tuple(_TOKENIZERS)
# The encoders of the full comparison, and the kind of tokenizer that each comes with; any other
# encoder gets BERT's.
ENCODERS = {"modernbert": "byte-bpe", "deberta-v2": "unigram-first", "bert": "wordpiece"}


@cache
def make_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """A small tokenizer of a kind in TOKENIZERS, with GLiClass's control tokens."""
    return _TOKENIZERS[kind]()


def _encoder_config(encoder: str, vocab_size: int) -> Any:
    shape: dict[str, Any] = {
        "hidden_size": HIDDEN,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "vocab_size": vocab_size,
        "max_position_embeddings": 512,
        # Far from the usual 0.02, so that random texts get scores that differ.
        "initializer_range": 0.3,
    }
    if encoder == "distilbert":
        return CONFIG_MAPPING[encoder](
            vocab_size=vocab_size, dim=HIDDEN, n_layers=2, n_heads=4, hidden_dim=48, initializer_range=0.3
        )
    if encoder not in ("deberta-v2", "modernbert"):
        return CONFIG_MAPPING[encoder](**shape, pad_token_id=0, embedding_size=HIDDEN)
    if encoder == "deberta-v2":
        relative: dict[str, Any] = {
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
        }
        extra: dict[str, Any] = {
            "type_vocab_size": 0,
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
            "position_buckets": 16,
        }
        return DebertaV2Config(**shape, **relative, **extra, max_relative_positions=-1)
    ids: dict[str, Any] = {
        "pad_token_id": 0,
        "cls_token_id": 1,
        "sep_token_id": 2,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return ModernBertConfig(
        **shape,
        **ids,
        local_attention=16,
        global_attn_every_n_layers=2,
        initializer_cutoff_factor=2.0,
        reference_compile=False,
    )


def write_checkpoint(
    folder: Path, encoder: str, *, tokenizer: str | None = None, seed: int = 0, **options: Any
) -> Path:
    """Write an official checkpoint with random weights.

    Args:
        folder: Where to.
        encoder: The encoder's model_type.
        tokenizer: A kind in TOKENIZERS; None for the encoder's own.
        seed: Decides the weights.
        options: Arguments of the official GLiClassModelConfig.
    """
    words = make_tokenizer(tokenizer or ENCODERS.get(encoder, "wordpiece"))
    label, text, example = (words.convert_tokens_to_ids(token) for token in CONTROL_TOKENS)
    torch.manual_seed(seed)
    config = GLiClassModelConfig(
        encoder_config=_encoder_config(encoder, len(words)),
        encoder_model="encoder",
        vocab_size=len(words),
        class_token_index=label,
        text_token_index=text,
        example_token_index=example,
        **{"initializer_range": 0.12, "scorer_num_heads": 4, **options},
    )
    GLiClassModel(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def write_encoder(folder: Path, architecture: type[PreTrainedModel] = BertModel, **options: Any) -> Path:
    """Write a BERT with random weights, bare or in another of transformers' architectures, and its tokenizer."""
    tokenizer = _wordpiece()
    shape = {"hidden_size": HIDDEN, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": HIDDEN}
    shape["initializer_range"] = 0.3  # far from the usual 0.02, so that random texts get scores that differ
    config = BertConfig(vocab_size=len(tokenizer) - len(CONTROL_TOKENS), num_labels=1, **shape)
    torch.manual_seed(0)
    architecture(config, **options).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


class OfficialPipeline:
    """The official pipeline on a checkpoint folder, one text at a time."""

    def __init__(self, folder: Path, *, max_length: int = 1024) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        # Its heads run in fp32 only; a checkpoint in half precision has to be converted.
        self.model = GLiClassModel.from_pretrained(folder).float().eval()
        self._pipeline = ZeroShotClassificationPipeline(
            self.model, self.tokenizer, device="cpu", progress_bar=False, max_length=max_length
        )

    def score(self, query: str, passages: Sequence[str]) -> list[float]:
        """The score of the query as the only label of each passage."""
        return [scores[0] for scores in self.score_labels([query], passages)]

    def score_labels(self, labels: Sequence[str], texts: Sequence[str]) -> list[list[float]]:
        """The scores of several labels together, by text."""
        results = (self._pipeline([text], list(labels), threshold=0.0)[0] for text in texts)
        return [[label["score"] for label in result] for result in results]


_FACTORS: dict[str, tuple[Any, ...]] = {
    "pooling_strategy": ("first", "last", "avg", "max", "sum", "rms", "abs_max", "abs_avg"),
    "scorer_type": ("simple", "weighted-dot", "mlp", "hopfield"),
    "class_token_pooling": ("first", "average"),
    "prompt_first": (True, False),
    "embed_class_token": (True, False),
    "extract_text_features": (True, False),
    "normalize_features": (False, True),
    "use_segment_embeddings": (False, True),
    "use_lstm": (False, True),
    "layer_wise": (False, True),
    "encoder_layer_id": (-1, 1),
}


def _can_run(options: dict[str, Any]) -> bool:
    """Whether the official library can run the options itself.

    It keeps inner layers only if layer_wise is set, and its cross-attention mask does not fit the
    LSTM's shorter output where the text is cut out of the sequence.
    """
    if options["scorer_type"] == "cross-attn" and options["use_lstm"] and options["extract_text_features"]:
        return False
    return options["encoder_layer_id"] == -1 or bool(options["layer_wise"])


def full_grid() -> Iterator[dict[str, Any]]:
    """All combinations of options that the official library can run, cross-attention included."""
    head = {"pooling_strategy": ("pass",), "scorer_type": ("cross-attn",)}
    for factors in (_FACTORS, {**_FACTORS, **head}):
        for values in itertools.product(*factors.values()):
            options = dict(zip(factors, values, strict=True))
            if _can_run(options):
                yield options


def covering_grid(seed: int = 0) -> list[dict[str, Any]]:
    """A few combinations in which every possible pair of option values occurs."""
    rng = random.Random(seed)
    grid = [(options, set(itertools.combinations(options.items(), 2))) for options in full_grid()]
    missing = set().union(*(pairs for _, pairs in grid))
    chosen = []
    while missing:
        # The best of some random combinations is good enough, and quick.
        useful = [(options, pairs) for options, pairs in rng.sample(grid, 500) if pairs & missing] or grid
        options, pairs = max(useful, key=lambda item: len(item[1] & missing))
        missing -= pairs
        chosen.append(options)
    return chosen
