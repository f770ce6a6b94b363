"""What was seen before: hidden things stay, carried ones move on, and a wrong look is forgotten."""

import torch

from vla_ros.policies.gaze import Gaze

GRID, NOWHERE = 16, 257
HOME, FAR, AWAY = 5 * 16 + 5, 12 * 16 + 12, 3 * 16 + 13


def seen(*places: int, sure=0.95) -> torch.Tensor:
    """(2, P + 2): one place for target and reference each, the rest spread evenly."""
    odds = torch.full((2, GRID**2 + 2), (1 - sure) / (GRID**2 + 1))
    for row, place in enumerate(places):
        odds[row, place] = sure
    return odds


def after(*looks: tuple[int, int]) -> list[int]:
    gaze = Gaze(GRID)
    for look in looks:
        belief = gaze.update(seen(*look))
    assert torch.allclose(belief.sum(1), torch.ones(2), atol=1e-5)
    return belief.argmax(1).tolist()


def test_what_a_thing_is_told_for_long_is_not_forgotten_at_once():
    gaze, cube = Gaze(GRID), torch.tensor([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]])
    for _ in range(5):
        assert gaze.recognise(cube).argmax(-1).tolist() == [0, 1]
    assert gaze.recognise(cube.flip(0)).argmax(-1).tolist() == [0, 1], "a hand hides much"
    for _ in range(9):
        told = gaze.recognise(cube.flip(0))
    assert told.argmax(-1).tolist() == [1, 0]


def test_the_first_look_is_believed_as_it_is():
    first = seen(HOME, NOWHERE)
    assert torch.equal(Gaze(GRID).update(first), first)


def test_a_look_elsewhere_for_a_moment_is_not_believed():
    assert after(*[(HOME, FAR)] * 3, (AWAY, AWAY)) == [HOME, FAR]
    assert after(*[(HOME, FAR)] * 3, *[(HOME, AWAY)] * 3) == [HOME, FAR], "a reference stays"


def test_a_first_look_that_was_wrong_is_forgotten():
    assert after((FAR, AWAY), *[(HOME, FAR)] * 12) == [HOME, FAR]


def test_what_is_carried_is_followed():
    way = [HOME + 3 * i for i in range(4)]  # three patches between two decisions
    assert after(*[(place, FAR) for place in way]) == [way[-1], FAR]


def test_what_is_seen_nowhere_stays_where_it_was():
    gaze, blind = Gaze(GRID), torch.full((2, GRID**2 + 2), 1 / GRID**2)
    blind[:, GRID**2:] = 0.0
    gaze.update(seen(HOME, FAR))
    for _ in range(3):
        belief = gaze.update(blind)
    assert belief.argmax(1).tolist() == [HOME, FAR] and belief[0].max() < belief[1].max(), "it may have been carried"


def test_target_and_reference_are_not_one_thing():
    odds = seen(HOME, HOME, sure=0.6)
    odds[0, FAR], odds[1, NOWHERE] = 0.3, 0.01  # the target may as well be elsewhere, the reference hardly
    belief = Gaze(GRID).update(odds)
    assert belief.argmax(1).tolist() == [FAR, HOME]
    assert after((HOME, FAR), *[(FAR, FAR)] * 12) == [FAR, FAR], "but one may come to lie on the other"


def test_a_reference_that_the_hand_hides_is_where_it_was_last_seen():
    gaze, away, over = Gaze(GRID), torch.tensor([12.0, 2.0]), torch.tensor([5.5, 4.0])
    first, wrong, pushed = (torch.tensor(p) for p in ([5.0, 5.0], [5.4, 4.5], [5.8, 5.2]))
    assert torch.equal(gaze.remember(first, away), first)
    assert torch.equal(gaze.remember(wrong, over), first)
    assert torch.equal(gaze.remember(pushed, away), pushed), "it is seen again"
    assert torch.equal(gaze.remember(torch.tensor([9.0, 9.0]), over), torch.tensor([9.0, 9.0])), "another thing"
