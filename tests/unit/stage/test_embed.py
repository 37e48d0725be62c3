"""Embeddings: bit-identical whatever the company, and the votes they cast."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from palimpsest_stage.clustering.partition import Partition
from palimpsest_stage.embed import ROWS, Embedder, embed_all
from palimpsest_stage.histogram import count_votes
from unit.stage.tiny import WORDS, tiny_encoder


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return Embedder(tiny_encoder(tmp_path_factory.mktemp("model") / "encoder"))


def embedded(embedder: Embedder, texts: list[str]) -> NDArray[np.float32]:
    return embed_all(embedder, texts, len(texts), lambda *_: None)


def around(centroids: NDArray[np.float32]) -> Partition:
    """Of the whole space: nothing is projected away."""
    dimension = centroids.shape[1]
    return Partition(torch.zeros(dimension), torch.eye(dimension), torch.from_numpy(centroids))


def sentences(count: int, length: int) -> list[str]:
    return [" ".join(WORDS[(i * 7 + j * 3) % 60] for j in range(length)) for i in range(count)]


def test_an_embedding_is_the_same_bits_whatever_the_company_and_position(
    embedder: Embedder,
) -> None:
    subject = "w1 w2 w3 w4"
    alone = embedded(embedder, [subject])[0]
    for company, position in [
        (sentences(ROWS - 1, 4), 0),
        (sentences(ROWS - 1, 5), ROWS - 1),
        (sentences(3 * ROWS, 4), 50),
        (sentences(9, 40), 4),
    ]:
        texts = [*company[:position], subject, *company[position:]]
        assert np.array_equal(embedded(embedder, texts)[position], alone)


def test_embeddings_are_masked_means_of_unit_length(embedder: Embedder) -> None:
    texts = sentences(3, 7)
    ours = embedded(embedder, texts)
    for text, row in zip(texts, ours, strict=True):
        ids = torch.tensor([embedder.tokens(text)])
        plain = embedder._model(ids, torch.ones_like(ids)).last_hidden_state[0].mean(0)
        assert np.allclose(row, plain / plain.norm(), atol=1e-5)


def test_one_vote_a_record_and_none_for_dummies(embedder: Embedder) -> None:
    texts = [*sentences(45, 4), *sentences(2, 9)]
    partition = around(embedded(embedder, sentences(5, 4)))
    votes = count_votes(embedder, partition, texts)
    assert sum(votes.values()) == len(texts)
    nearest = torch.cdist(torch.from_numpy(embedded(embedder, texts)), partition.centroids).argmin(
        1
    )
    assert votes == {c: int((nearest == c).sum()) for c in set(nearest.tolist())}
    assert not count_votes(embedder, partition, [])


def test_a_record_that_cannot_be_tokenised_votes_for_none(embedder: Embedder) -> None:
    partition = around(embedded(embedder, sentences(5, 4)))
    assert sum(count_votes(embedder, partition, ["w1 w2", "\ud800", "w3"]).values()) == 2
