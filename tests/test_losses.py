"""What training makes small: pairs, the order of each question's passages, and the teachers' part in it."""

from __future__ import annotations

import pytest
import torch
from gliclass.loss_functions import focal_loss_with_logits

from gliclass_rerank.training.losses import focal_loss, group_loss, list_loss, taught


def test_the_loss_falls_as_answers_rise() -> None:
    targets = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    good, bad = torch.tensor([[3.0, -3.0], [-3.0, -3.0]]), torch.tensor([[-3.0, -3.0], [3.0, -3.0]])
    assert group_loss(good, targets) < 0.2 < group_loss(bad, targets)
    # Without any answer, or with a single passage, only the pairs count.
    nothing = torch.zeros(2, 1)
    assert list_loss(torch.tensor([[9.0], [-9.0]]), nothing) == 0
    assert list_loss(torch.full((1, 2), -9.0), torch.ones(1, 2)) == 0


def test_the_focal_loss_is_the_official_one() -> None:

    torch.manual_seed(0)
    logits, targets = torch.randn(5, 7) * 3, torch.randint(2, (5, 7)).float()
    for alpha, gamma in ((0.7, 2.0), (0.25, 1.0), (0.5, 0.0)):
        official = focal_loss_with_logits(logits, targets, alpha=alpha, gamma=gamma, reduction="mean")
        torch.testing.assert_close(focal_loss(logits, targets, alpha, gamma), official)


@pytest.mark.parametrize("teachers", ["encoder", "reranker", "both"])
def test_a_teacher_draws_the_loss_towards_the_passages_it_likes(teachers: str) -> None:
    targets = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    scores = torch.tensor([[0.8, 0.1], [0.8, 0.9], [0.1, 0.1]])
    goal = taught(None if teachers == "reranker" else scores, None if teachers == "encoder" else scores)
    second_best, third_best = torch.tensor([[1.0], [0.0], [-1.0]]), torch.tensor([[1.0], [-1.0], [0.0]])
    for column in (0, 1):  # with an answer and without one
        goals = targets[:, [column]], goal[:, [column]]
        assert list_loss(second_best, *goals) < list_loss(third_best, *goals)


def test_two_teachers_are_summed() -> None:
    cosines, logits = torch.tensor([[0.02], [0.0]]), torch.tensor([[0.0], [1.0]])
    torch.testing.assert_close(taught(cosines, logits), (cosines * 50 + logits).softmax(0))
    assert taught(None, None) is None


def test_a_pair_that_nobody_judged_counts_only_in_the_order() -> None:
    logits = torch.tensor([[2.0], [-1.0]])
    judged, unknown = torch.tensor([[1.0], [0.0]]), torch.tensor([[1.0], [-1.0]])
    assert focal_loss(logits, unknown) == focal_loss(logits[:1], judged[:1])
    assert focal_loss(logits, torch.tensor([[-1.0], [-1.0]])) == 0
    goal = torch.tensor([[0.9], [0.1]])
    torch.testing.assert_close(list_loss(logits, unknown, goal), list_loss(logits, judged, goal))
