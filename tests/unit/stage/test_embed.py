"""Embeddings: bit-identical whatever the company, and the votes they cast."""

import json
import multiprocessing
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch
from embeddings import embed_all
from numpy.typing import NDArray
from palimpsest.api.outcomes import Outcome
from palimpsest_stage.clustering.embedding import embed_apart
from palimpsest_stage.clustering.partition import Partition
from palimpsest_stage.embed import MAX_LENGTH, ROWS, Embedder
from palimpsest_stage.errors import InputMismatch, ModelUnsuitable
from palimpsest_stage.histogram import count_votes
from palimpsest_stage.main import classify
from palimpsest_stage.runtime import Rows, write_rows
from tokenizers import normalizers, processors
from unit.stage.tiny import WORDS, encoder_tokenizer, panicking, tiny_encoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("model") / "encoder")


@pytest.fixture(scope="module")
def embedder(encoder: Path) -> Embedder:
    return Embedder(encoder)


def pool(folder: Path, texts: list[str]) -> Rows:
    return Rows([write_rows(folder / "pool.jsonl", ({"instruction": text} for text in texts))])


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
    alone = embed_all(embedder, [subject])[0]
    for company, position in [
        (sentences(ROWS - 1, 4), 0),
        (sentences(ROWS - 1, 5), ROWS - 1),
        (sentences(3 * ROWS, 4), 50),
        (sentences(9, 40), 4),
    ]:
        texts = [*company[:position], subject, *company[position:]]
        assert np.array_equal(embed_all(embedder, texts)[position], alone)


def test_an_embedder_that_mixes_texts_is_refused_on_public_ground(
    encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Embedder._embed

    def mixed(self: Embedder, rows: list[list[int]], length: int) -> torch.Tensor:
        return plain(self, rows, length) * (1 + 1e-6 * len({len(row) for row in rows}))

    monkeypatch.setattr(Embedder, "_embed", mixed)
    with pytest.raises(ModelUnsuitable, match="neighbours"):
        Embedder(encoder)


def test_an_embedder_with_experts_is_refused(tmp_path: Path) -> None:
    folder = tiny_encoder(tmp_path / "experts")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_experts": 8}))
    with pytest.raises(ModelUnsuitable, match="a mixture of experts"):
        Embedder(folder)


def test_centroids_that_are_none_are_refused(tmp_path: Path) -> None:
    none = Partition(torch.zeros(48), torch.eye(48), torch.zeros(0, 48))
    with pytest.raises(InputMismatch, match="there are none"):
        Partition.load(none.save(tmp_path / "partition"), 48)


def test_embeddings_are_masked_means_of_unit_length(embedder: Embedder) -> None:
    texts = sentences(3, 7)
    ours = embed_all(embedder, texts)
    for text, row in zip(texts, ours, strict=True):
        ids = torch.tensor([embedder.tokens(text)])
        plain = embedder._model(ids, torch.ones_like(ids)).last_hidden_state[0].mean(0)
        assert np.allclose(row, plain / plain.norm(), atol=1e-5)


def test_one_vote_a_record_and_none_for_dummies(embedder: Embedder) -> None:
    texts = [*sentences(45, 4), *sentences(2, 9)]
    partition = around(embed_all(embedder, sentences(5, 4)))
    votes = count_votes(embedder, partition, texts)
    assert sum(votes.values()) == len(texts)
    nearest = torch.cdist(torch.from_numpy(embed_all(embedder, texts)), partition.centroids).argmin(
        1
    )
    assert votes == {c: int((nearest == c).sum()) for c in set(nearest.tolist())}
    assert not count_votes(embedder, partition, [])


def test_a_record_that_cannot_be_tokenised_votes_for_none(embedder: Embedder) -> None:
    partition = around(embed_all(embedder, sentences(5, 4)))
    assert sum(count_votes(embedder, partition, ["w1 w2", "\ud800", "w3"]).values()) == 2


def test_a_record_that_the_tokenizer_panics_on_votes_for_none(
    encoder: Path, embedder: Embedder, tmp_path: Path
) -> None:
    panics = copytree(encoder, tmp_path / "panics")
    panicking(encoder_tokenizer()).save_pretrained(panics)
    partition = around(embed_all(embedder, sentences(5, 4)))
    votes = count_votes(Embedder(panics), partition, ["w1 w2", "a" * 40 + "b", "w3"])
    assert votes == count_votes(embedder, partition, ["w1 w2", "w3"])


def test_a_record_without_any_token_votes_for_none(
    encoder: Path, embedder: Embedder, tmp_path: Path
) -> None:
    bare, tokenizer = copytree(encoder, tmp_path / "bare"), encoder_tokenizer()
    rust = tokenizer.backend_tokenizer
    rust.normalizer = normalizers.Replace("\u200b", "")
    rust.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    tokenizer.save_pretrained(bare)
    partition = around(embed_all(embedder, sentences(5, 4)))
    found = Embedder(bare)
    assert found.tokens("\u200b") == []
    votes = count_votes(found, partition, ["w1 w2", "\u200b", "w3"])
    assert votes == count_votes(found, partition, ["w1 w2", "w3"])
    assert not count_votes(found, partition, ["\u200b"])
    # One of the pool must have an embedding all the same.
    ((indices, rows),) = found.batches([[], found.tokens("w1")])
    assert indices == [0, 1]
    assert torch.isfinite(rows).all()


def test_an_encoder_that_states_no_positions_embeds_texts_of_the_usual_length(
    tmp_path: Path,
) -> None:
    folder = tiny_encoder(tmp_path / "bloom", "bloom")
    config = json.loads((folder / "config.json").read_text())
    del config["max_position_embeddings"]
    (folder / "config.json").write_text(json.dumps(config))
    assert len(Embedder(folder).tokens("w1 " * 200)) == MAX_LENGTH


def test_an_encoder_with_fewer_positions_than_it_says_is_refused(tmp_path: Path) -> None:
    # RoBERTa's positions begin behind its padding's number: 64 of them hold 63 tokens.
    with pytest.raises(ModelUnsuitable, match="the embedder cannot embed 32 texts of 64 tokens"):
        Embedder(tiny_encoder(tmp_path / "roberta", "roberta"))


@pytest.mark.parametrize(
    "said",
    [
        "DefaultCPUAllocator: can't allocate memory",
        "CUDA out of memory",
    ],
)
def test_too_little_memory_for_the_largest_batch_shows_at_once_and_as_that(
    encoder: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    def full(_self: Embedder, rows: list[list[int]], length: int) -> None:
        assert (len(rows), length, {len(row) for row in rows}) == (ROWS, 64, {64})
        raise RuntimeError(said)

    monkeypatch.setattr(Embedder, "_embed", full)
    with pytest.raises(RuntimeError, match="memory") as caught:
        Embedder(encoder)
    assert classify(caught.value) == Outcome.OUT_OF_RESOURCES


def test_a_process_of_its_own_makes_the_same_bits_and_tells_how_far_it_is(
    encoder: Path, embedder: Embedder, tmp_path: Path
) -> None:
    texts = [*sentences(ROWS, 4), *sentences(5, 30), *sentences(3, 4)]
    told: list[tuple[int, int, str]] = []
    found = embed_apart(encoder, pool(tmp_path, texts), tmp_path, lambda *now: told.append(now))
    assert np.array_equal(found, embed_all(embedder, texts))
    assert [done for done, _, _ in told] == [ROWS, ROWS + 3, len(texts)]
    assert found.flags.owndata
    assert not (tmp_path / "embeddings").exists()


def test_the_fault_of_a_process_of_its_own_is_the_stages(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "unheard-of"}')
    with pytest.raises(ModelUnsuitable):
        embed_apart(tmp_path, pool(tmp_path, ["w1"]), tmp_path, lambda *_: None)


def test_a_process_of_its_own_that_is_killed_was_out_of_memory(
    encoder: Path, tmp_path: Path
) -> None:
    def kill(*_: object) -> None:
        (child,) = multiprocessing.active_children()
        child.kill()

    rows = pool(tmp_path, sentences(200 * ROWS, 9))
    with pytest.raises(MemoryError):
        embed_apart(encoder, rows, tmp_path, kill)
    assert not multiprocessing.active_children()
