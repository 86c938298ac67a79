"""How the images of a batch are varied: a function of (seed, step) and of the place in the batch alone."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from sagd_cli.training.batches import Batches, Views


def places_of(count, shape=(20, 24)):
    """Images (count, 2, *shape) whose pixels hold their own row and column."""
    rows, columns = np.indices(shape, dtype=np.uint8)
    return torch.from_numpy(np.stack([rows, columns])).expand(count, -1, -1, -1)


def lyings(square):
    """The eight ways to lay down (C, n, n)."""
    return [view.flip(axes) for view in (square, square.mT) for axes in ([], [-1], [-2], [-1, -2])]


@pytest.mark.parametrize(
    "views",
    [Views(), Views(flips=True), Views(turns=True, crops=(16,)), Views(turns=True, crops=(8, 12, 16))],
    ids=str,
)
def test_images_are_seen_the_same_however_the_batch_is_divided(views):
    images = torch.randint(
        256, (40, 1, 20, 24), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    batches = Batches(images, 40, 3, views=views)
    for step in range(4):
        whole = batches.at(step).images
        parts = [batches.at(step, range(*ends)).images for ends in pairwise((0, 16, 23, 40))]
        assert torch.equal(torch.cat(parts), whole)
        assert torch.equal(Batches(images, 40, 3, views=views).at(step).images, whole)


def test_crops_are_squares_from_everywhere_of_one_side_in_each_step():
    views, images = Views(crops=(8, 12)), places_of(200)
    sides, corners = [], []
    for step in range(60):
        seen = views.at(images, range(200), 0, step)
        side = seen.shape[-1]
        corner = seen[:, :, :1, :1]
        sides.append(side)
        corners.extend(corner[:, :, 0, 0].tolist() if side == 8 else [])
        assert torch.equal(seen, corner + places_of(200, (side, side)))
    assert {8, 12} == set(sides) and 15 <= sides.count(8) <= 45
    rows, columns = (set(values) for values in zip(*corners, strict=True))
    assert rows == set(range(13)) and columns == set(range(17))
    # A side of the whole image leaves one place.
    assert torch.equal(Views(crops=(20,)).at(images[..., :20], range(200), 0, 0), images[..., :20])


def test_turned_images_lie_in_all_eight_ways_as_often():
    square = places_of(1, (6, 6))[0]
    seen = Views(turns=True).at(square.expand(4000, -1, -1, -1), range(4000), 0, 0)
    counts = [int((seen == way).flatten(1).all(1).sum()) for way in lyings(square)]
    assert sum(counts) == 4000 and all(abs(count - 500) < 5 * (4000 * 7 / 64) ** 0.5 for count in counts)


def test_flipped_images_are_mirrored_left_to_right_by_halves():
    images = places_of(4000, (5, 6))
    seen = Views(flips=True).at(images, range(4000), 0, 0)
    mirrored = (seen == images.flip(-1)).flatten(1).all(1)
    assert bool((mirrored ^ (seen == images).flatten(1).all(1)).all())
    assert abs(int(mirrored.sum()) - 2000) < 5 * 1000**0.5


def test_another_step_or_seed_sees_images_in_other_ways():
    views, images = Views(turns=True, crops=(8,)), places_of(50)
    first = views.at(images, range(50), 0, 0)
    for seed, step in ((0, 1), (1, 0)):
        assert not torch.equal(views.at(images, range(50), seed, step), first)
