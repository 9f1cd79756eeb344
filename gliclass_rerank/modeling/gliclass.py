"""The GLiClass uni-encoder: label and text share one sequence and one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from gliclass_rerank.modeling.config import GLiClassConfig
from gliclass_rerank.modeling.encoders import build_encoder, can_pack, encode_packed
from gliclass_rerank.modeling.heads import POOLERS, SCORER_CLASSES, Lstm, Projector

_EPSILON = 1e-8  # added to norms, as in the official library


class GLiClassNetwork(nn.Module):
    """Encoder and head of a GLiClass checkpoint.

    Parameters have the official names without the leading ``model.``. The encoder may run in bf16 or fp16. The head
    computes in fp32, so that rounding does not tie scores.

    Args:
        config: The checked settings.

    Raises:
        ValueError: ``encoder_layer_id`` names a layer that the encoder does not have.
    """

    def __init__(self, config: GLiClassConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder_model = build_encoder(config)
        layers, layer = self.encoder_model.config.num_hidden_layers, config.encoder_layer_id
        if not -layers - 1 <= layer <= layers:  # hidden states of the embeddings and of each layer
            raise ValueError(f"config.json has encoder_layer_id {layer}, expected {-layers - 1} to {layers}.")
        self._hidden_layer = layer if layer >= -1 else layers + 1 + layer
        self.text_projector = Projector(config)
        self.classes_projector = Projector(config)
        self.scorer = SCORER_CLASSES[config.scorer_type](config)
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale_init_value))
        self.dropout = nn.Dropout(config.dropout)
        if config.use_lstm:
            self.lstm = Lstm(config.hidden_size)
        if config.use_segment_embeddings:
            self.segment_embeddings = nn.Embedding(3, config.encoder_hidden_size)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, num_labels: int) -> Tensor:
        """Score the labels inside each sequence against its text.

        Args:
            input_ids: (batch, length) token ids, padded on the right.
            attention_mask: (batch, length), 1 for tokens and 0 for padding.
            num_labels: The largest number of labels in any of the sequences.

        Returns:
            (batch, num_labels) logits in fp32. If a sequence has fewer labels, the rest of its row means nothing.
        """
        return self.score_tokens(self.encode(input_ids, attention_mask), input_ids, attention_mask, num_labels)

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Run the encoder on padded sequences.

        Args:
            input_ids: (batch, length) token ids, padded on the right.
            attention_mask: (batch, length), 1 for tokens and 0 for padding.

        Returns:
            (batch, length, hidden) token vectors in fp32.
        """
        layer = self._hidden_layer
        output = self._run_encoder(input_ids, attention_mask, output_hidden_states=layer != -1)
        vectors: Tensor = output.last_hidden_state if layer == -1 else output.hidden_states[layer]
        return vectors.float()

    def encode_layers(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Run the encoder on padded sequences; see ``encode``.

        Returns:
            The states of the embeddings and after each layer, (batch, length, hidden) each.
        """
        states: tuple[Tensor, ...] = self._run_encoder(
            input_ids, attention_mask, output_hidden_states=True
        ).hidden_states
        return states

    def score_tokens(self, tokens: Tensor, input_ids: Tensor, attention_mask: Tensor, num_labels: int) -> Tensor:
        """Run the head.

        Args:
            tokens: (batch, length, hidden) token vectors, as ``encode`` returns them.
            input_ids: (batch, length) token ids, padded on the right.
            attention_mask: (batch, length), 1 for tokens and 0 for padding.
            num_labels: The largest number of labels in any of the sequences.

        Returns:
            (batch, num_labels) logits in fp32.
        """
        with torch.autocast(input_ids.device.type, enabled=False):  # training switches it on
            return self._score(tokens, input_ids, attention_mask, num_labels)

    @property
    def can_pack(self) -> bool:
        """Whether ``score_packed`` can run the encoder."""
        return can_pack(self.encoder_model)

    def score_packed(self, input_ids: Tensor, lengths: Sequence[int], num_labels: int) -> Tensor:
        """Score sequences that follow one another without padding; logits equal those of ``forward``.

        Args:
            input_ids: (tokens) token ids of all sequences.
            lengths: Tokens of each sequence.
            num_labels: The largest number of labels in any of the sequences.

        Returns:
            (sequences, num_labels) logits in fp32.
        """
        ids = pad_sequence(list(torch.split(input_ids, list(lengths))), batch_first=True)
        mask = torch.arange(ids.shape[1], device=ids.device) < torch.tensor(lengths, device=ids.device)[:, None]
        inputs = {"input_ids": input_ids[None]}
        if self.config.use_segment_embeddings:
            inputs = {"inputs_embeds": self._with_segments(ids)[mask][None]}
        read = self._tokens_read(ids, mask, num_labels)
        rows = read[mask].nonzero()[:, 0]
        vectors = encode_packed(self.encoder_model, inputs, lengths, self._hidden_layer, rows)
        # The head sees each sequence without the tokens that it does not read: often two of hundreds remain.
        counts = read.sum(1, keepdim=True)
        order = (~read).to(torch.uint8).argsort(dim=1, stable=True)[:, : int(counts.max())]
        present = torch.arange(order.shape[1], device=ids.device) < counts
        tokens = vectors.new_zeros(*order.shape, vectors.shape[-1], dtype=torch.float32)
        tokens[present] = vectors.float()
        return self._score(tokens, ids.gather(1, order), present.long(), num_labels)

    def _tokens_read(self, input_ids: Tensor, mask: Tensor, num_labels: int) -> Tensor:
        """(batch, length), true for the tokens that the head needs; ``mask`` is true for tokens.

        Without the others, the head finds the same labels and the same first token of the text.
        """
        if self.config.pooling_strategy != "first" or self.config.use_lstm:
            return mask
        read = self._label_members(input_ids, mask, num_labels).any(1) | (input_ids == self.config.class_token_index)
        first = self._text_start(input_ids) if self.config.extract_text_features else torch.zeros_like(input_ids[:, :1])
        return read.scatter(1, first, True) & mask

    def _score(self, tokens: Tensor, input_ids: Tensor, attention_mask: Tensor, num_labels: int) -> Tensor:
        labels, label_mask = self.label_vectors(tokens, input_ids, attention_mask, num_labels)
        text, text_mask = self._text_vectors(tokens, input_ids, attention_mask)
        text = self.dropout(self.text_projector(text))
        labels = self.classes_projector(labels)
        if self.config.normalize_features:
            text = text / (text.norm(dim=-1, keepdim=True) + _EPSILON)
            labels = labels / (labels.norm(dim=-1, keepdim=True) + _EPSILON)
        logits: Tensor = self.scorer(text, labels, text_mask, label_mask)
        return logits * self.logit_scale if self.config.normalize_features else logits

    def _run_encoder(self, input_ids: Tensor, attention_mask: Tensor, **options: bool) -> Any:  # noqa: ANN401 - an encoder's
        inputs = {"input_ids": input_ids}
        if self.config.use_segment_embeddings:
            inputs = {"inputs_embeds": self._with_segments(input_ids)}
        return self.encoder_model(**inputs, attention_mask=attention_mask, **options)

    def _with_segments(self, input_ids: Tensor) -> Tensor:
        embeddings: Tensor = self.encoder_model.get_input_embeddings()(input_ids)
        segments: Tensor = self.segment_embeddings(self._segment_ids(input_ids)).to(embeddings.dtype)
        return embeddings + segments

    def _segment_ids(self, input_ids: Tensor) -> Tensor:
        """(batch, length): 0 before the text token, 1 from it on; all 2 in a sequence with examples.

        The 2 is a mistake of the official library. It stays because checkpoints were trained with it.
        """
        segments = self._from_text_token(input_ids).long()
        has_example = (input_ids == self.config.example_token_index).any(1, keepdim=True)
        return segments.masked_fill(has_example, 2)

    def _from_text_token(self, input_ids: Tensor) -> Tensor:
        """(batch, length), true from the first text token on; all true in a sequence without one."""
        is_text = input_ids == self.config.text_token_index
        return (is_text.cumsum(1) > 0) | ~is_text.any(1, keepdim=True)

    def _text_start(self, input_ids: Tensor) -> Tensor:
        """(batch, 1) index of the first text token; 0 in a sequence without one."""
        return (~self._from_text_token(input_ids)).sum(1, keepdim=True)

    def label_vectors(
        self, tokens: Tensor, input_ids: Tensor, attention_mask: Tensor, num_labels: int
    ) -> tuple[Tensor, Tensor]:
        """Pool each label's tokens.

        Args:
            tokens: (batch, length, hidden) token vectors.
            input_ids: (batch, length) token ids, padded on the right.
            attention_mask: (batch, length), 1 for tokens and 0 for padding.
            num_labels: The largest number of labels in any of the sequences.

        Returns:
            The labels' vectors (batch, labels, hidden) before projection, and a mask (batch, labels) that is true
            where a sequence has that label.
        """
        weights = self._label_members(input_ids, attention_mask.bool(), num_labels).to(tokens.dtype)
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1)
        counts = (input_ids == self.config.class_token_index).sum(1, keepdim=True)
        return weights @ tokens, torch.arange(num_labels, device=tokens.device) < counts

    def _label_members(self, input_ids: Tensor, mask: Tensor, num_labels: int) -> Tensor:
        """(batch, labels, length), true for the tokens whose mean is the label's vector."""
        is_label = input_ids == self.config.class_token_index
        number = torch.arange(1, num_labels + 1, device=input_ids.device)[None, :, None]
        member = is_label.cumsum(1).unsqueeze(1) == number  # from a label token to the next
        if self.config.class_token_pooling == "average":
            member = member & mask.unsqueeze(1)
            if self.config.extract_text_features:
                member = member & ~self._from_text_token(input_ids).unsqueeze(1)
            if not self.config.embed_class_token:
                member = member & ~is_label.unsqueeze(1)
        else:
            member = member & is_label.unsqueeze(1)
            if not self.config.embed_class_token:
                member = nn.functional.pad(member, (1, -1))  # the token after the label token
        return member

    def _text_vectors(self, tokens: Tensor, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """The pooled text (batch, hidden) or its tokens (batch, length, hidden); its mask (batch, length)."""
        text_mask = pool_mask = attention_mask
        if self.config.extract_text_features:
            inside = self._from_text_token(input_ids)
            # Text tokens move to the front, and zeros fill the sequence up to its length. The official poolings count
            # these zeros, so checkpoints were trained with them.
            tokens = tokens * (inside & attention_mask.bool()).unsqueeze(-1)
            places = torch.arange(tokens.shape[1], device=tokens.device)
            order = (places + self._text_start(input_ids)) % tokens.shape[1]
            tokens = tokens.gather(1, order.unsqueeze(-1).expand_as(tokens))
            text_mask = (attention_mask * inside).gather(1, order)
        if self.config.use_lstm:
            tokens, pool_mask = self.lstm(tokens, text_mask), text_mask
        pooled = POOLERS[self.config.pooling_strategy](tokens, pool_mask.unsqueeze(-1).to(tokens.dtype))
        return pooled, text_mask
