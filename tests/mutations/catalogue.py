"""Ways to break what is promised, each with the test that must notice."""

from __future__ import annotations

from dataclasses import dataclass

STAGE, OPERATOR = "images/stage/palimpsest_stage", "operator/palimpsest"


@dataclass(frozen=True)
class Mutation:
    """In `file` the one place that reads `before` reads `after`; `test` must fail."""

    name: str
    file: str
    before: str
    after: str
    test: str


_SGD = "tests/unit/stage/test_sgd.py"
_NOISE = "tests/unit/stage/test_noise.py"
_TRAIN = "tests/unit/stage/test_train.py"
_GRADIENTS = "tests/unit/stage/test_gradients.py"
_JOURNAL = "tests/unit/ledger/test_journal.py"

MUTATIONS = (
    Mutation(
        "the mean is clipped",
        f"{STAGE}/dp/sgd.py",
        "    norms = _norms(gradients)\n    weights",
        "    gradients = gradients.mean(0, keepdim=True).expand_as(gradients)\n"
        "    norms = _norms(gradients)\n    weights",
        f"{_SGD}::test_each_row_is_clipped_before_the_sum",
    ),
    Mutation(
        "the mean of a pass is clipped",
        f"{STAGE}/train.py",
        "            total += clipped_sum(gradients, float(settings.clipping_norm))",
        "            mean = gradients.mean(0, keepdim=True)\n"
        "            total += len(gradients) * clipped_sum(mean, float(settings.clipping_norm))",
        f"{_TRAIN}::test_a_step_without_noise_is_the_clipped_sum_over_the_expected_batch",
    ),
    Mutation(
        "clipped gradients are added in single precision",
        f"{STAGE}/dp/sgd.py",
        "total = gradients.new_zeros(gradients.shape[1], dtype=torch.float64)",
        "total = gradients.new_zeros(gradients.shape[1], dtype=torch.float32)",
        f"{_SGD}::test_who_else_is_in_the_sum_moves_no_record_beyond_its_norm",
    ),
    Mutation(
        "a gradient that is not finite counts",
        f"{STAGE}/dp/sgd.py",
        "torch.where(torch.isfinite(norms), weights, 0.0)",
        "torch.where(norms >= 0, weights, 1.0)",
        f"{_SGD}::test_a_gradient_that_is_not_finite_contributes_zero",
    ),
    Mutation(
        "noise is scaled by the wrong batch",
        f"{STAGE}/train.py",
        "            float(settings.clipping_norm),\n            settings.expected_batch_size,",
        "            float(settings.clipping_norm),\n            settings.micro_batch_size,",
        f"{_TRAIN}::test_an_empty_batch_adds_noise_to_zero_and_steps",
    ),
    Mutation(
        "noise is divided twice",
        f"{STAGE}/dp/sgd.py",
        "noise_multiplier * clipping_norm * normals)",
        "noise_multiplier * clipping_norm * normals / expected_batch_size)",
        f"{_SGD}::test_noise_is_scaled_by_sigma_and_norm_and_divided_by_the_expected_batch",
    ),
    Mutation(
        "noise comes from a seeded generator",
        f"{STAGE}/dp/noise.py",
        "algorithms.AES(os.urandom(32)), modes.CTR(os.urandom(16))",
        "algorithms.AES(bytes(32)), modes.CTR(bytes(16))",
        f"{_NOISE}::test_two_generators_share_no_noise",
    ),
    Mutation(
        "every step draws the same noise",
        f"{STAGE}/train.py",
        "self.generator.normals(self.adapters.size, total.device)",
        "torch.randn(self.adapters.size, generator=torch.Generator().manual_seed(0)).double()",
        f"{_TRAIN}::test_two_runs_and_two_steps_share_no_noise",
    ),
    Mutation(
        "batches have a fixed size",
        f"{STAGE}/dp/noise.py",
        "        return np.flatnonzero(self.words(population) < threshold)",
        "        size = min(population, round(population * expected / records))\n"
        "        return np.argsort(self.words(population))[:size]",
        f"{_NOISE}::test_each_record_is_included_at_the_declared_rate_and_independently",
    ),
    Mutation(
        "the sampling rate follows the actual count",
        f"{STAGE}/train.py",
        "            len(examples), settings.expected_batch_size, settings.records\n",
        "            len(examples), settings.expected_batch_size, max(1, len(examples))\n",
        f"{_TRAIN}::test_the_sampling_rate_is_the_declared_one_whatever_the_actual_count",
    ),
    Mutation(
        "records are padded to the longest in their batch",
        f"{STAGE}/gradients.py",
        "bucket(len(shape.start) + len(example), shape.max_length)",
        "bucket(len(shape.start) + max(map(len, examples)), shape.max_length)",
        f"{_GRADIENTS}::test_padded_length_follows_from_the_record_alone",
    ),
    Mutation(
        "no dummies fill a pass",
        f"{STAGE}/gradients.py",
        "yield _pad(group[first : first + size], shape, length, size)",
        "yield _pad(group[first : first + size], shape, length, min(size, len(group) - first))",
        f"{_GRADIENTS}::test_padded_length_follows_from_the_record_alone",
    ),
    Mutation(
        "losses are averaged over the tokens of a batch",
        f"{STAGE}/gradients.py",
        "    return losses.sum(1) / counts",
        "    return losses.sum(1) / counts.float().mean()",
        f"{_GRADIENTS}::test_clipped_sum_equals_a_plain_autograd_loop",
    ),
    Mutation(
        "gradients are left over from the last pass",
        f"{STAGE}/lora.py",
        "                self._matrix[:, offset : offset + size] = 0.0",
        "                pass",
        f"{_GRADIENTS}::test_what_a_batch_leaves_behind_is_no_part_of_the_next",
    ),
    Mutation(
        "an intent follows its block",
        f"{STAGE}/train.py",
        """            if group.leads:
                fence.intent(block, steps)
            for _ in range(steps):
                # The others begin with weights that the leader sends, after its intent.
                state, size = trainer.step(state, examples)
                batches.append(size)
""",
        """            for _ in range(steps):
                state, size = trainer.step(state, examples)
                batches.append(size)
            if group.leads:
                fence.intent(block, steps)
""",
        f"{_TRAIN}::test_private_data_is_opened_after_the_start_and_a_block_after_its_intent",
    ),
    Mutation(
        "a lost checkpoint begins again",
        f"{STAGE}/train.py",
        "    if done < intended_steps - earlier_attempts * parameters.block_steps:",
        "    if False:",
        f"{_TRAIN}::test_a_lost_checkpoint_is_not_made_up_for_by_restarts_that_are_left",
    ),
    Mutation(
        "a histogram is drawn anew in every attempt",
        f"{STAGE}/histogram.py",
        "        result = store.get(kept)\n    except NotFound:",
        "        raise NotFound(kept)\n    except NotFound:",
        f"{_TRAIN}::test_a_histogram_is_drawn_once_however_often_it_is_tried",
    ),
    Mutation(
        "other noise over the same votes is published once the first is lost",
        f"{STAGE}/histogram.py",
        '        if any(context.output.list(f"{context.prefix}attempts/")):',
        "        if False:",
        f"{_TRAIN}::test_a_histogram_is_drawn_once_however_often_it_is_tried",
    ),
    Mutation(
        "a model that answers by company is trained",
        f"{STAGE}/train.py",
        "    check_company(model, parameters.max_length)\n",
        "",
        f"{_TRAIN}::test_a_model_that_answers_by_company_costs_nothing",
    ),
    Mutation(
        "what a model remembers of other lengths goes unseen",
        f"{STAGE}/gradients.py",
        "    gradients(1)\n",
        "",
        "tests/unit/stage/test_gradients.py::"
        "test_what_a_model_remembers_of_other_lengths_is_found_on_the_public_dummy",
    ),
    Mutation(
        "private data is looked for as its URI is spelled",
        f"{OPERATOR}/terms/files.py",
        'normpath(f"/{key}")',
        "key",
        "tests/unit/terms/test_files.py::test_a_file_is_private_wherever_stores_may_find_it_there",
    ),
    Mutation(
        "what does not fit is granted",
        f"{OPERATOR}/ledger/state.py",
        "        if not self.fits(body.mechanism):",
        "        if False:",
        f"{_JOURNAL}::test_what_does_not_fit_is_denied_with_what_is_left",
    ),
    Mutation(
        "a stage starts that was not reserved",
        f"{STAGE}/private/fence.py",
        "        if reserved != (mechanism, restarts, block_steps):",
        "        if False:",
        f"{_TRAIN}::test_parameters_that_were_not_reserved_are_refused_before_the_start",
    ),
    Mutation(
        "dummies vote",
        f"{STAGE}/histogram.py",
        "nearest[: len(indices)].tolist()",
        "nearest.tolist()",
        "tests/unit/stage/test_embed.py::test_one_vote_a_record_and_none_for_dummies",
    ),
    Mutation(
        "negative counts add to the rest",
        f"{STAGE}/select.py",
        "[max(kept * int(count) - excess, 0) for count in noisy]",
        "[max(int(count), 0) for count in noisy]",
        "tests/unit/stage/test_select.py"
        "::test_weights_are_the_counts_less_one_amount_and_keep_their_sum",
    ),
    Mutation(
        "the nucleus is all",
        f"{STAGE}/decode.py",
        "[before + alike * weights.gather(1, places)[:, 0] >= top_p]",
        "[before + alike * weights.gather(1, places)[:, 0] >= 1.0]",
        "tests/unit/stage/test_decode.py"
        "::test_nucleus_sampling_has_the_distribution_of_a_full_sort",
    ),
    Mutation(
        "more rows are begun than asked for",
        f"{STAGE}/decode.py",
        "left = min(len(prompts) - started, rows - sum(alive))",
        "left = len(prompts) - started",
        "tests/unit/stage/test_decode.py"
        "::test_every_prompt_is_answered_once_and_no_more_rows_are_there_than_asked_for",
    ),
    Mutation(
        "answers that were kept are asked for again",
        f"{STAGE}/answers/gathering.py",
        "    recall(parts, answered)\n",
        "",
        "tests/unit/stage/test_endpoint.py::test_after_a_kill_what_was_kept_is_not_asked_again",
    ),
    Mutation(
        "a verdict of one order counts",
        f"{STAGE}/alignment/verdicts.py",
        '{("A", "B"): 1, ("B", "A"): -1}',
        '{("A", "B"): 1, ("A", "A"): 1, ("B", "A"): -1}',
        "tests/unit/stage/test_judges.py::test_a_judge_that_always_says_a_decides_nothing",
    ),
    Mutation(
        "pairs that are held out are learnt from",
        f"{STAGE}/alignment/preferences.py",
        "[pair for pair in pairs if pair.instruction not in held]",
        "list(pairs)",
        "tests/unit/stage/test_reward_stage.py"
        "::test_a_split_keeps_an_instruction_on_one_side_whatever_the_order",
    ),
    Mutation(
        "the key follows a redirect",
        f"{STAGE}/answers/endpoint.py",
        "allow_redirects=False",
        "allow_redirects=True",
        "tests/unit/stage/test_endpoint.py::test_what_asking_again_would_not_mend_ends_it_at_once",
    ),
    Mutation(
        "refusals are learnt from",
        f"{STAGE}/answers/finish.py",
        "USABLE = frozenset({Finish.STOP, Finish.LENGTH})",
        "USABLE = frozenset({Finish.STOP, Finish.LENGTH, Finish.REFUSAL})",
        "tests/unit/stage/test_answers.py"
        "::test_only_answers_that_ended_well_are_learnt_from_and_others_counted",
    ),
    Mutation(
        "a checkpoint is loaded whatever its digest",
        f"{STAGE}/alignment/checkpoints.py",
        "if file_digest(path) != digest or not _plain(path):",
        "if not _plain(path):",
        "tests/unit/stage/test_sft_stage.py::test_a_checkpoint_that_somebody_touched_is_none",
    ),
    Mutation(
        "packed examples see one another",
        f"{STAGE}/alignment/packing.py",
        "torch.cat([torch.arange(part) for part in parts])",
        "torch.arange(sum(parts))",
        "tests/unit/stage/test_packing.py"
        "::test_a_row_keeps_its_examples_apart_and_learns_of_no_padding",
    ),
    Mutation(
        "an echo of the question is rewarded",
        f"{STAGE}/alignment/rewards.py",
        "novelty = sum(word not in asked for word in told) / len(told)",
        "novelty = len(told) / len(told)",
        "tests/unit/stage/test_rewards.py::test_formulas_are_shares_and_an_echo_gets_nothing",
    ),
    Mutation(
        "no gate is ever failed",
        f"{STAGE}/alignment/evaluation.py",
        "and not figure <= float(bound)",
        "and figure is None",
        "tests/unit/stage/test_evaluation.py::test_gates_fail_beyond_their_bounds_only",
    ),
    Mutation(
        "the card keeps quiet about receipts",
        f"{STAGE}/lineage.py",
        "            if manifest.charge is not None:",
        "            if manifest.charge is None:",
        "tests/unit/stage/test_card.py"
        "::test_a_card_tells_what_the_rows_are_and_what_they_were_made_by",
    ),
    Mutation(
        "an artifact's text becomes markup",
        f"{OPERATOR}/report/page.py",
        'f"<td{style}>{escape(text)}</td>"',
        'f"<td{style}>{text}</td>"',
        "tests/unit/demo/test_report.py::test_text_from_artifacts_is_escaped",
    ),
)
