"""Sentence embeddings, each a function of its own text alone, to the bit.

Padded lengths follow from the text, every batch has the same rows (dummies fill), float32.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from palimpsest_stage.company import check_company
from palimpsest_stage.errors import ModelUnsuitable, exhausted
from palimpsest_stage.models import load_encoder
from palimpsest_stage.text import bucket

ROWS = 32
MAX_LENGTH = 128


class Embedder:
    """Mean pooling over the last layer, then L2 normalisation."""

    def __init__(self, folder: Path) -> None:
        """Raises ModelUnsuitable."""
        self._model, self._tokenizer = load_encoder(folder)
        self.dimension: int = self._model.config.hidden_size
        stated = getattr(self._model.config, "max_position_embeddings", None)
        self._longest = min(MAX_LENGTH, stated or MAX_LENGTH)
        self._check()

    def tokens(self, text: str) -> list[int]:
        """The text's token ids, cut to the model's length."""
        ids: list[int] = self._tokenizer(
            text[: 16 * self._longest], truncation=True, max_length=self._longest
        )["input_ids"]
        return ids

    def batches(self, texts: Iterable[list[int]]) -> Iterator[tuple[list[int], Tensor]]:
        """(indices, embeddings) of tokenised texts, embeddings always (ROWS, dimension).

        Rows beyond the indices are dummies. Batches come by padded length, not in the texts' order.
        """
        waiting: dict[int, list[tuple[int, list[int]]]] = {}
        for index, ids in enumerate(texts):
            # A text of no token is a dummy.
            length = bucket(max(1, len(ids)), self._longest)
            group = waiting.setdefault(length, [])
            group.append((index, ids))
            if len(group) == ROWS:
                yield [i for i, _ in group], self._embed([ids for _, ids in group], length)
                group.clear()
        for length, group in waiting.items():
            if group:
                yield [i for i, _ in group], self._embed([ids for _, ids in group], length)

    def _check(self) -> None:
        """Embed the largest batch that there can be, of no text, and one of them in other company.

        What fails at the longest text must fail here, and not where a private one is met. Some
        encoders count positions from their padding's number on, and have fewer than they say.
        """
        check_company(self._model, self._longest)
        token = 1 if getattr(self._model.config, "pad_token_id", None) == 0 else 0
        one = [token] * self._longest
        short = [one[: 1 + row % self._longest] for row in range(ROWS - 1)]
        try:
            alike = self._embed([one] * ROWS, self._longest)
            alone = self._embed([one], self._longest)[0]
            self._embed([one[:1]], bucket(1, self._longest))
            others = self._embed([*short, one], self._longest)
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            if exhausted(error):
                raise
            raise ModelUnsuitable(
                f"the embedder cannot embed {ROWS} texts of {self._longest} tokens: {error}"
            ) from error
        if not all(torch.equal(alone, row) for row in (alike[0], alike[-1], others[-1])):
            raise ModelUnsuitable("a text's embedding depends on its neighbours in the batch")

    @torch.inference_mode()
    def _embed(self, rows: list[list[int]], length: int) -> Tensor:
        tokens = torch.zeros(ROWS, length, dtype=torch.long)
        mask = torch.zeros(ROWS, length, dtype=torch.long)
        # A dummy attends to its first token: an empty mask would make NaN.
        mask[:, 0] = 1
        for row, ids in enumerate(rows):
            tokens[row, : len(ids)] = torch.tensor(ids)
            mask[row, : len(ids)] = 1
        tokens, mask = tokens.to(self._model.device), mask.to(self._model.device)
        hidden = self._model(input_ids=tokens, attention_mask=mask).last_hidden_state
        weights = mask[:, :, None].to(hidden.dtype)
        pooled = (hidden * weights).sum(1) / weights.sum(1)
        normalised: Tensor = torch.nn.functional.normalize(pooled, dim=1)
        return normalised.cpu()
