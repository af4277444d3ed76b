import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.errors import InputError
from edgeprune.training.images import Augmentation, ImageArrays, Normalisation
from edgeprune.training.seeds import generator, stream_seed


def arrays(train: int = 10, val: int = 5) -> ImageArrays:
    """Return images of 4 x 4 whose pixels all hold the image's number, which is its label too."""
    count = train + val
    numbers = torch.arange(count, dtype=torch.uint8)
    pixels = numbers.view(-1, 1, 1, 1).expand(count, 4, 4, 1).contiguous()
    labels = numbers.long()
    return ImageArrays(
        name="numbers",
        x_train=pixels[:train],
        y_train=labels[:train],
        x_val=pixels[train:],
        y_val=labels[train:],
        classes=count,
        normalisation=Normalisation(),
        augmentation=Augmentation(shift=1, mirror=True),
        digest="00",
    )


def test_normalisation_is_pixel_over_255_minus_mean_over_std() -> None:
    pixels = torch.tensor([[0, 255], [51, 102]], dtype=torch.uint8).view(1, 2, 1, 2)
    # Channel 0: (0 - .5) / .25 = -2, (1 - .5) / .25 = 2. Channel 1: (.2 - .2) / .5 = 0, (.4 - .2) / .5 = .4.
    expected = torch.tensor([[-2.0, 2.0], [0.0, 0.4]]).view(1, 2, 1, 2)
    torch.testing.assert_close(Normalisation((0.5, 0.2), (0.25, 0.5))(pixels), expected)


def test_normalisation_without_numbers_is_pixel_over_255() -> None:
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 1, 1, 3)
    torch.testing.assert_close(Normalisation()(pixels).flatten(), torch.tensor([0.0, 0.2, 1.0]))
    assert "no mean and std given" in str(Normalisation())


def test_normalisation_spreads_one_number_over_all_channels() -> None:
    assert Normalisation((0.5,), (2.0,)).checked(3) == Normalisation((0.5, 0.5, 0.5), (2.0, 2.0, 2.0))


@pytest.mark.parametrize(
    ("normalisation", "told"),
    [
        (Normalisation(mean=(0.1, 0.2)), "mean has 2 values and the images have 3 channels"),
        (Normalisation(std=(0.1, 0.0, 0.1)), "not above zero"),
        (Normalisation(std=(0.1, -1.0, 0.1)), "not above zero"),
    ],
)
def test_normalisation_that_does_not_fit_is_refused(normalisation: Normalisation, told: str) -> None:
    with pytest.raises(InputError, match=told):
        normalisation.checked(3)


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=4, unique=True))
def test_seeds_depend_on_the_order_of_their_parts(parts: list[int]) -> None:
    assert stream_seed(*parts) != stream_seed(*reversed(parts))
    assert 0 <= stream_seed(*parts) < 2**63


def test_shift_moves_a_picture_over_a_black_border() -> None:
    # One bright pixel in the middle of 3 x 3, shifted by at most 1: it lands on each of the nine places, never outside.
    images = torch.zeros(400, 3, 3, 1, dtype=torch.uint8)
    images[:, 1, 1] = 9
    varied = Augmentation(shift=1, mirror=False)(images, generator(0))
    assert varied.shape == images.shape
    assert varied.dtype == torch.uint8
    assert (varied.sum((1, 2, 3)) == 9).all()
    assert (varied.sum(0) > 0).all()


def test_mirror_turns_about_half_of_the_pictures_and_keeps_their_rows() -> None:
    images = torch.tensor([[1, 2, 3], [4, 5, 6]], dtype=torch.uint8).view(1, 2, 3, 1).repeat(400, 1, 1, 1)
    varied = Augmentation(shift=0, mirror=True)(images, generator(0))
    turned = (varied == images.flip(2)).flatten(1).all(1)
    same = (varied == images).flatten(1).all(1)
    assert (turned ^ same).all()
    assert 150 < turned.sum() < 250  # 200 are expected, with a standard deviation of 10


def test_an_epoch_has_every_image_once_when_batches_divide_it() -> None:
    data = arrays(train=10)
    labels = torch.cat([y for _, y in data.train_batches(5, epoch=0, seed=0)])
    assert sorted(labels.tolist()) == list(range(10))
    assert data.train_steps(5) == 2


def test_a_last_smaller_batch_is_left_out_but_a_small_set_is_one_batch() -> None:
    assert [len(y) for _, y in arrays(train=10).train_batches(4, epoch=0, seed=0)] == [4, 4]
    assert [len(y) for _, y in arrays(train=3).train_batches(4, epoch=0, seed=0)] == [3]
    assert arrays(train=10).train_steps(4) == 2
    assert arrays(train=3).train_steps(4) == 1


def test_the_same_epoch_and_seed_give_the_same_batches() -> None:
    data = arrays()
    first, again = (list(data.train_batches(4, epoch=3, seed=1)) for _ in range(2))
    for (x, y), (same_x, same_y) in zip(first, again, strict=True):
        assert torch.equal(x, same_x)
        assert torch.equal(y, same_y)
    other_epoch = torch.cat([y for _, y in data.train_batches(4, epoch=4, seed=1)])
    other_seed = torch.cat([y for _, y in data.train_batches(4, epoch=3, seed=2)])
    labels = torch.cat([y for _, y in first])
    assert not torch.equal(labels, other_epoch)
    assert not torch.equal(labels, other_seed)


def test_batches_do_not_touch_the_global_random_state() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    list(arrays().train_batches(4, epoch=0, seed=0))
    arrays().calibration(4, seed=0)
    assert torch.equal(torch.rand(3), expected)


def test_images_and_labels_stay_together_and_are_numbers_in_nchw() -> None:
    for x, y in arrays().train_batches(4, epoch=0, seed=0, augment=False):
        assert x.shape == (4, 1, 4, 4)
        assert x.dtype == torch.float32
        assert x.is_contiguous()
        assert torch.equal((x[:, 0, 0, 0] * 255).round().long(), y)


def test_validation_is_everything_in_order() -> None:
    batches = list(arrays(train=10, val=5).val_batches(2))
    assert [y.tolist() for _, y in batches] == [[10, 11], [12, 13], [14]]


def test_calibration_is_drawn_from_training_images_without_repeats() -> None:
    labels = torch.cat([y for _, y in arrays(train=10).calibration(6, seed=0)])
    assert len(set(labels.tolist())) == 6
    assert max(labels) < 10
    everything = torch.cat([y for _, y in arrays(train=10).calibration(99, seed=0)])
    assert sorted(everything.tolist()) == list(range(10))


def test_the_description_says_what_is_done_to_the_images() -> None:
    told = arrays().description
    for part in (
        "10 training",
        "5 validation",
        "15 classes",
        "1x4x4",
        "divided by 255",
        "1 pixels",
        "mirrored at random",
    ):
        assert part in told
