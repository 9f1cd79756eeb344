"""What training makes small: pairs, the order of each question's passages, and the teachers' part in it."""

from __future__ import annotations

import pytest
import torch
from gliclass.loss_functions import focal_loss_with_logits

from gliclass_rerank.training.losses import (
    focal_loss,
    group_loss,
    kl_loss,
    list_loss,
    margin_mse_loss,
    ranknet_loss,
    scores_loss,
    sum_teachers,
)
from gliclass_rerank.training.settings import ORDER_LOSSES


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
    teacher = sum_teachers(None if teachers == "reranker" else scores, None if teachers == "encoder" else scores)
    second_best, third_best = torch.tensor([[1.0], [0.0], [-1.0]]), torch.tensor([[1.0], [-1.0], [0.0]])
    for column in (0, 1):  # with an answer and without one
        goals = targets[:, [column]], teacher[:, [column]]
        assert list_loss(second_best, *goals) < list_loss(third_best, *goals)


def test_two_teachers_are_summed() -> None:
    cosines, logits = torch.tensor([[0.02], [0.0]]), torch.tensor([[0.0], [1.0]])
    torch.testing.assert_close(sum_teachers(cosines, logits), cosines * 50 + logits)
    torch.testing.assert_close(sum_teachers(cosines, logits, 0.5), cosines * 50 + logits / 2)
    torch.testing.assert_close(sum_teachers(None, logits, 0.5), logits)
    assert sum_teachers(None, None) is None


def test_a_pair_that_nobody_judged_counts_only_in_the_order() -> None:
    logits = torch.tensor([[2.0], [-1.0]])
    judged, unknown = torch.tensor([[1.0], [0.0]]), torch.tensor([[1.0], [-1.0]])
    assert focal_loss(logits, unknown) == focal_loss(logits[:1], judged[:1])
    assert focal_loss(logits, torch.tensor([[-1.0], [-1.0]])) == 0
    teacher = torch.tensor([[2.0], [0.0]])
    torch.testing.assert_close(list_loss(logits, unknown, teacher), list_loss(logits, judged, teacher))


def test_kl_is_the_listwise_loss_of_the_teacher_alone_less_what_no_model_can_avoid() -> None:
    torch.manual_seed(0)
    logits, teacher, targets = torch.randn(4, 3), torch.randn(4, 3), torch.zeros(4, 3)
    distribution = teacher.softmax(0)
    entropy = -(distribution * distribution.log()).sum(0).mean()
    torch.testing.assert_close(kl_loss(logits, targets, teacher), list_loss(logits, targets, teacher, 1.0) - entropy)


def test_the_goal_of_scores_is_the_teacher_s_with_a_bonus_for_passages_that_answer() -> None:
    teacher, targets = torch.tensor([[1.0], [2.0], [-9.0]]), torch.tensor([[1.0], [0.0], [-1.0]])
    goal = torch.tensor([[5.0], [2.0], [-9.0]])

    def loss_of(logits: torch.Tensor) -> float:
        return scores_loss(logits, targets, teacher, label_bonus=4.0).item()

    at_goal = loss_of(goal)
    assert loss_of(goal + 7) == pytest.approx(at_goal, abs=1e-5)  # differences count, not the scores themselves
    for passage in range(3):  # also the last one, which the teacher alone judged
        for step in (-2.0, 2.0):
            moved = goal.clone()
            moved[passage] += step
            assert loss_of(moved) > at_goal + 0.03
    assert scores_loss(goal, targets) == 0  # without a teacher
    far_off = loss_of(goal + torch.tensor([[0.0], [0.0], [1e6]]))
    assert far_off < loss_of(goal + torch.tensor([[0.0], [0.0], [1e5]])) * 11  # no worse than the order alone


def test_margins_are_those_of_answers_over_other_passages() -> None:
    logits, teacher = torch.tensor([[3.0], [1.0], [0.0], [9.0]]), torch.tensor([[6.0], [5.0], [1.0], [0.0]])
    targets = torch.tensor([[1.0], [0.0], [0.0], [-1.0]])  # nobody judged the last one
    expected = ((2 - 1) ** 2 + (3 - 5) ** 2) / 2
    assert margin_mse_loss(logits, targets, teacher).item() == expected
    # Without an answer the teacher says which passage leads.
    assert margin_mse_loss(logits[:2], torch.zeros(2, 1), teacher[:2]).item() == 1


def test_ranknet_counts_pairs_in_the_wrong_order() -> None:
    targets, right, wrong = torch.tensor([[1.0], [0.0]]), torch.tensor([[4.0], [-4.0]]), torch.tensor([[-4.0], [4.0]])
    assert ranknet_loss(right, targets) < 0.01 and ranknet_loss(wrong, targets) > 7
    assert ranknet_loss(wrong, torch.zeros(2, 1)) == 0
    assert ranknet_loss(wrong, torch.zeros(2, 1), teacher=right) > 7


@pytest.mark.parametrize("name", ORDER_LOSSES)
def test_every_loss_learns_the_teacher_s_order_where_nobody_judged(name: str) -> None:
    logits = torch.zeros(4, 2, requires_grad=True)
    teacher, unknown = torch.tensor([[3.0, 0.0], [2.0, 1.0], [1.0, 3.0], [0.0, 2.0]]), torch.full((4, 2), -1.0)
    for _ in range(200):
        (slope,) = torch.autograd.grad(group_loss(logits, unknown, teacher, loss=name), logits)
        logits = (logits - slope).detach().requires_grad_()
    assert torch.equal(logits.argsort(0), teacher.argsort(0))


@pytest.mark.parametrize("name", ORDER_LOSSES)
def test_a_single_passage_has_no_order_to_learn(name: str) -> None:
    logits, targets = torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 0.0]])
    torch.testing.assert_close(group_loss(logits, targets, loss=name), 2 * focal_loss(logits, targets))
