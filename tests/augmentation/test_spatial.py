"""Affine augmentation: where points, images and labels go, and that all three go to one place."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcreg.augmentation import (
    Chain,
    CropResize,
    HorizontalFlip,
    Identity,
    OneOf,
    Rotation,
    Scaling,
    Translation,
    apply_to_image,
    compose,
    default_augmentation,
    draw_inside,
    zhang2021_augmentation,
)
from hcreg.augmentation.spatial import about_center
from hcreg.geometry import Ellipse, fit_ellipse, resize_matrix

FRAME = (540, 800)
HEAD = Ellipse(390.0, 285.0, 150.0, 110.0, 0.6)
UNIT = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
TRANSFORMS = {
    "identity": Identity(),
    "flip": HorizontalFlip(1.0),
    "rotation": Rotation(10.0, 10.0),
    "rotations": Rotation(-20.0, 20.0),
    "scaling": Scaling(0.75, 1.2),
    "translation": Translation(40.0, 27.0),
    "crop": CropResize(),
    "chain": Chain((HorizontalFlip(), Rotation(5.0, 30.0), Scaling(0.7, 0.9), Translation(20.0, 20.0))),
    "one of": OneOf((Rotation(3.0, 4.0), CropResize())),
    "zhang2021": zhang2021_augmentation(),
    "default": default_augmentation(),
}


def rng(seed=0):
    return np.random.default_rng(seed)


def at(matrix, x, y):
    return tuple(np.asarray(matrix) @ (x, y, 1.0))


def drawn(ellipse, shape):
    """The ellipse of the frame as a smooth-edged picture of the whole frame resized to `shape`."""
    fine = ellipse.transformed(resize_matrix(FRAME, (4 * shape[0], 4 * shape[1])))
    mask = fine.mask((4 * shape[0], 4 * shape[1])).reshape(shape[0], 4, shape[1], 4)
    return np.rint(255 * mask.mean(axis=(1, 3))).astype(np.uint8)


@pytest.mark.parametrize("shape", [(256, 256), (448, 448), (540, 800)])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_label_goes_where_the_image_goes(name, shape):
    for seed in range(3):
        matrix = TRANSFORMS[name].draw(rng(seed), FRAME)
        expected = HEAD.transformed(matrix)
        x_min, y_min, x_max, y_max = expected.bounding_box()
        assert min(x_min, y_min, 799 - x_max, 539 - y_max) > 2, "choose a head that stays inside"
        warped = apply_to_image(drawn(HEAD, shape), matrix, FRAME)
        area_px = warped.sum(dtype=float) / 255 * (540 * 800) / (shape[0] * shape[1])
        semi_axes = expected.semi_axis_a_px, expected.semi_axis_b_px
        assert area_px == pytest.approx(math.pi * math.prod(semi_axes), rel=5e-4)
        found = fit_ellipse(warped / 255.0).transformed(resize_matrix(shape, FRAME))
        assert found.circumference_px == pytest.approx(expected.circumference_px, rel=1e-3)
        assert found.center_x_px == pytest.approx(expected.center_x_px, abs=0.2)
        assert found.center_y_px == pytest.approx(expected.center_y_px, abs=0.2)
        assert found.semi_axis_a_px == pytest.approx(expected.semi_axis_a_px, rel=3e-3)
        assert abs(math.sin(found.angle_rad - expected.angle_rad)) < 0.02


def test_head_of_another_place_would_be_noticed():
    # the test above can fail: the label of the untouched head is not within its tolerance
    warped = apply_to_image(drawn(HEAD, (256, 256)), CropResize().draw(rng(), FRAME), FRAME)
    found = fit_ellipse(warped / 255.0).transformed(resize_matrix((256, 256), FRAME))
    assert abs(found.circumference_px / HEAD.circumference_px - 1) > 0.2


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(TRANSFORMS)),
    st.integers(0, 2**32),
    st.builds(
        Ellipse.from_axes,
        st.floats(0, 800),
        st.floats(0, 540),
        st.floats(20, 300),
        st.floats(20, 300),
        st.floats(0, 3.14),
    ),
    st.floats(0.05, 0.4),
)
def test_way_back_gives_the_annotated_circumference(name, seed, head, pixel_size_mm):
    matrix = TRANSFORMS[name].draw(rng(seed), FRAME)
    back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    to_mm = compose(back, [[pixel_size_mm, 0, 0], [0, pixel_size_mm, 0]])
    hc_mm = head.transformed(matrix).transformed(to_mm).circumference_px
    assert hc_mm == pytest.approx(head.circumference_mm(pixel_size_mm), rel=1e-9)


def test_compose_applies_the_first_first():
    shift, double = [[1, 0, 5], [0, 1, -3]], [[2, 0, 0], [0, 2, 1]]
    assert at(compose(shift, double), 10, 20) == (30, 35)  # (15, 17), doubled, and 1 lower
    assert at(compose(double, shift), 10, 20) == (25, 38)


def test_flip_mirrors_pixel_centres():
    matrix = HorizontalFlip(1.0).draw(rng(), FRAME)
    assert at(matrix, 0, 7) == (799, 7)
    assert at(matrix, 799, 7) == (0, 7)


def test_flip_twice_is_nothing():
    matrix = HorizontalFlip(1.0).draw(rng(), FRAME)
    assert np.array_equal(compose(matrix, matrix), UNIT)
    image = rng().integers(0, 256, (256, 256), dtype=np.uint8)
    once = apply_to_image(image, matrix, FRAME)
    assert np.array_equal(once, image[:, ::-1])
    assert np.array_equal(apply_to_image(once, matrix, FRAME), image)


def test_flip_has_its_probability():
    generator = rng(3)
    flipped = [HorizontalFlip(0.3).draw(generator, FRAME)[0, 0] < 0 for _ in range(2000)]
    assert 0.27 < np.mean(flipped) < 0.33
    assert not any(HorizontalFlip(0.0).draw(generator, FRAME)[0, 0] < 0 for _ in range(50))


def test_rotation_is_counter_clockwise_on_the_screen():
    quarter = Rotation(90.0, 90.0).draw(rng(), FRAME)
    # 100 px to the right of the middle (399.5, 269.5) goes 100 px above it: y points down
    assert at(quarter, 499.5, 269.5) == pytest.approx((399.5, 169.5))
    image = np.zeros((101, 101), np.uint8)
    image[50, 90] = 255
    turned = apply_to_image(image, Rotation(90.0, 90.0).draw(rng(), image.shape), image.shape)
    assert np.argwhere(turned > 128).tolist() == [[10, 50]]


def test_rotation_of_the_papers_by_hand():
    matrix = Rotation(10.0, 10.0).draw(rng(), FRAME)
    cos, sin = 0.984807753, 0.173648178
    assert at(matrix, 399.5, 269.5) == pytest.approx((399.5, 269.5))
    assert at(matrix, 499.5, 269.5) == pytest.approx((399.5 + 100 * cos, 269.5 - 100 * sin))
    assert at(matrix, 399.5, 169.5) == pytest.approx((399.5 - 100 * sin, 269.5 - 100 * cos))
    assert HEAD.transformed(matrix).circumference_px == pytest.approx(HEAD.circumference_px)


def test_rotations_fill_their_range():
    generator = rng(1)
    matrices = [Rotation(-20.0, 40.0).draw(generator, FRAME) for _ in range(500)]
    degrees = [math.degrees(math.atan2(-matrix[1, 0], matrix[0, 0])) for matrix in matrices]
    assert -20 <= min(degrees) < -19
    assert 39 < max(degrees) <= 40


def test_scaling_keeps_the_middle_and_multiplies_the_circumference():
    matrix = Scaling(1.2, 1.2).draw(rng(), FRAME)
    assert at(matrix, 399.5, 269.5) == pytest.approx((399.5, 269.5))
    assert HEAD.transformed(matrix).circumference_px == pytest.approx(1.2 * HEAD.circumference_px)


def test_scaling_is_log_uniform():
    generator = rng(2)
    factors = [Scaling(0.5, 2.0).draw(generator, FRAME)[0, 0] for _ in range(2000)]
    assert 0.5 <= min(factors) < 0.51
    assert 1.96 < max(factors) <= 2.0
    assert 0.46 < np.mean(np.less(factors, 1.0)) < 0.54


def test_translations_fill_both_directions_up_to_their_limits():
    generator = rng(3)
    matrices = np.array([Translation(40.0, 27.0).draw(generator, FRAME) for _ in range(1000)])
    assert np.all(matrices[:, :, :2] == np.eye(2))
    for shift, limit in ((matrices[:, 0, 2], 40), (matrices[:, 1, 2], 27)):
        assert -limit <= shift.min() < -0.98 * limit
        assert 0.98 * limit < shift.max() <= limit


def test_shift_moves_the_image_by_so_many_reference_pixels():
    image = np.zeros((270, 400), np.uint8)  # half the frame: 40 and 20 reference px are 20 and 10 px here
    image[100, 200] = 255
    moved = apply_to_image(image, [[1, 0, 40], [0, 1, -20]], FRAME)
    assert np.argwhere(moved).tolist() == [[90, 220]]
    assert moved[90, 220] == 255


@pytest.mark.parametrize("shape", [(256, 256), (540, 800)])
@pytest.mark.parametrize("signs", [(-1, -1), (-1, 1), (1, -1), (1, 1)])
def test_nothing_wraps_around_the_border(shape, signs):
    frame = np.zeros(shape, np.uint8)
    across, down = 40 * shape[1] / 800, 27 * shape[0] / 540
    if signs[0] < 0:
        frame[:, :3] = 255
    else:
        frame[:, -3:] = 255
    if signs[1] < 0:
        frame[:3] = 255
    else:
        frame[-3:] = 255
    matrix = about_center(np.eye(2), FRAME, (40 * signs[0], 27 * signs[1]))
    assert not apply_to_image(frame, matrix, FRAME).any()  # all that was bright has left
    back = apply_to_image(frame, about_center(np.eye(2), FRAME, (-40 * signs[0], -27 * signs[1])), FRAME)
    came_in = math.floor(across) - 1, math.floor(down) - 1
    columns = back[:, : came_in[0]] if signs[0] < 0 else back[:, -came_in[0] :]
    rows = back[: came_in[1]] if signs[1] < 0 else back[-came_in[1] :]
    assert back.any()
    assert not columns.any()
    assert not rows.any()


@pytest.mark.parametrize("name", TRANSFORMS)
def test_what_comes_in_is_black(name):
    white = np.full((256, 256), 255, np.uint8)
    for seed in range(5):
        matrix = TRANSFORMS[name].draw(rng(seed), FRAME)
        warped = apply_to_image(white, matrix, FRAME)
        rows, columns = np.indices(white.shape)
        in_frame = resize_matrix(white.shape, FRAME) @ [columns.ravel(), rows.ravel(), np.ones(rows.size)]
        linear, shift = matrix[:, :2], matrix[:, 2:]
        x, y = (np.linalg.inv(linear) @ (in_frame - shift)).reshape(2, *white.shape)
        outside = (x < -5) | (x > 804) | (y < -5) | (y > 544)
        inside = (x > 5) & (x < 794) & (y > 5) & (y < 534)
        assert not warped[outside].any()
        assert np.all(warped[inside] == 255)


def test_crop_resize_takes_the_edges_of_its_box_to_the_edges_of_the_frame():
    matrix = CropResize(shift_px=0.0).draw(rng(), FRAME)
    assert matrix[:, :2] == pytest.approx(np.diag([4 / 3, 1.2]))
    # pixel 100 is the first inside: its left edge, 99.5 in pixel-centre coordinates, goes to -0.5
    assert at(matrix, 99.5, 49.5) == pytest.approx((-0.5, -0.5))
    assert at(matrix, 699.5, 499.5) == pytest.approx((799.5, 539.5))


def test_crop_resize_is_cropping_and_resizing():
    smooth = cv2.GaussianBlur(rng().integers(0, 256, FRAME, dtype=np.uint8), (0, 0), 4)
    warped = apply_to_image(smooth, CropResize(shift_px=0.0).draw(rng(), FRAME), FRAME)
    expected = cv2.resize(smooth[50:500, 100:700], (800, 540), interpolation=cv2.INTER_LINEAR)
    difference = np.abs(warped.astype(int) - expected)[2:-2, 2:-2]
    assert smooth.std() > 5
    assert difference.max() <= 1


def test_crop_resize_scales_no_circumference_by_one_factor():
    matrix = CropResize(shift_px=0.0).draw(rng(), FRAME)
    lying, standing = Ellipse(400, 270, 120, 90, 0.0), Ellipse(400, 270, 120, 90, math.pi / 2)
    # semi-axes 160 and 108; 120 and 144. Ramanujan II by hand: h = (52 / 268)^2 and (24 / 264)^2
    for head, total, h in ((lying, 268, (52 / 268) ** 2), (standing, 264, (24 / 264) ** 2)):
        expected = math.pi * total * (1 + 3 * h / (10 + math.sqrt(4 - 3 * h)))
        assert head.transformed(matrix).circumference_px == pytest.approx(expected, rel=1e-9)
    ratios = [head.transformed(matrix).circumference_px / head.circumference_px for head in (lying, standing)]
    assert ratios[0] - ratios[1] > 0.02
    for factor in (4 / 3, 1.2, math.sqrt(1.6)):
        assert all(abs(ratio / factor - 1) > 0.003 for ratio in ratios)


def test_crop_resize_shifts_afterwards_by_up_to_its_limit():
    generator = rng(4)
    still = CropResize(shift_px=0.0).draw(generator, FRAME)
    shifts = np.array([CropResize().draw(generator, FRAME) - still for _ in range(500)])
    assert not shifts[:, :, :2].any()
    assert 4.9 < np.abs(shifts[:, :, 2]).max() <= 5


def test_zhang2021_draws_each_of_its_six_members():
    generator = rng(5)
    kinds = {"identity": 0, "flip": 0, "rotation": 0, "small shift": 0, "large shift": 0, "crop": 0}
    for _ in range(3000):
        matrix = zhang2021_augmentation().draw(generator, FRAME)
        linear, shift = matrix[:, :2], matrix[:, 2]
        if np.allclose(linear, np.diag([-1, 1])):
            kinds["flip"] += 1
        elif np.allclose(linear, np.diag([4 / 3, 1.2])):
            kinds["crop"] += 1
        elif not np.allclose(linear, np.eye(2)):
            assert math.degrees(math.atan2(-linear[1, 0], linear[0, 0])) == pytest.approx(10)
            kinds["rotation"] += 1
        elif not shift.any():
            kinds["identity"] += 1
        else:
            kinds["small shift" if np.abs(shift).max() <= 5 else "large shift"] += 1
            assert np.all(np.abs(shift) <= (40, 27))
    # 500 each; 1 in 43 of the large shifts is small by chance; six standard deviations are 122
    assert all(378 < count < 622 for count in kinds.values()), kinds


def test_chain_is_its_members_one_after_the_other():
    members = (Rotation(10.0, 10.0), HorizontalFlip(1.0), Scaling(1.1, 1.1))
    x, y = 123.0, 45.0
    for member in members:
        x, y = at(member.draw(rng(), FRAME), x, y)
    assert at(Chain(members).draw(rng(), FRAME), 123.0, 45.0) == pytest.approx((x, y))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_drawing_is_apart_from_applying(name):
    transform, image = TRANSFORMS[name], rng().integers(0, 256, (64, 64), dtype=np.uint8)
    matrix = transform.draw(rng(8), FRAME)
    assert matrix.shape == (2, 3)
    assert np.array_equal(matrix, transform.draw(rng(8), FRAME))
    before = matrix.copy(), image.copy()
    first = apply_to_image(image, matrix, FRAME)
    assert (first.shape, first.dtype) == (image.shape, image.dtype)
    assert np.array_equal(first, apply_to_image(image, matrix, FRAME))
    assert np.array_equal(matrix, before[0])
    assert np.array_equal(image, before[1])


def test_identity_can_be_written_to_without_harm():
    Identity().draw(rng(), FRAME)[:] = 7
    HorizontalFlip(0.0).draw(rng(), FRAME)[:] = 7
    draw_inside(Translation(4000.0, 0.0), rng(), HEAD, (1, 1))[0][:] = 7
    assert np.array_equal(Identity().draw(rng(), FRAME), UNIT)


def test_identity_gives_the_image_itself():
    image = rng().integers(0, 256, (256, 256), dtype=np.uint8)
    assert np.array_equal(apply_to_image(image, UNIT, FRAME), image)


def inside(ellipse, shape=FRAME):
    x, y = ellipse.contour(2000).T
    return x.min() > -0.51 and y.min() > -0.51 and x.max() < shape[1] - 0.49 and y.max() < shape[0] - 0.49


@pytest.mark.parametrize("augmentation", [default_augmentation(), zhang2021_augmentation()])
@pytest.mark.parametrize("head", [HEAD, Ellipse(200, 180, 170, 150, 0.2), Ellipse(400, 270, 330, 250, 0.1)])
def test_no_augmented_head_leaves_the_frame(augmentation, head):
    changed = 0
    for seed in range(150):
        matrix, moved = draw_inside(augmentation, rng(seed), head, FRAME)
        if np.array_equal(matrix, UNIT):
            assert moved.contour(9) == pytest.approx(head.contour(9))
            continue
        changed += 1
        assert inside(moved)
        assert moved == head.transformed(matrix)
    assert changed > 20


class Scripted:
    """Gives the same few maps to whoever draws."""

    def __init__(self, *shifts):
        self.shifts, self.num_draws = shifts, 0

    def draw(self, rng, shape):
        self.num_draws += 1
        return about_center(np.eye(2), shape, (self.shifts[self.num_draws - 1], 0.0))


def test_first_draw_that_stays_inside_is_taken():
    transform = Scripted(500.0, -500.0, 60.0, 10.0)
    matrix, moved = draw_inside(transform, rng(), HEAD, FRAME)
    assert transform.num_draws == 3
    assert matrix[0, 2] == 60
    assert moved.center_x_px == 450


def test_image_stays_as_it_is_where_no_draw_keeps_the_head_inside():
    transform = Scripted(500.0, -500.0, 600.0, 10.0)
    matrix, moved = draw_inside(transform, rng(), HEAD, FRAME, max_draws=3)
    assert transform.num_draws == 3
    assert np.array_equal(matrix, UNIT)
    assert moved == HEAD


def test_head_may_touch_the_frames_edge_and_no_more():
    x_min = Ellipse(100, 270, 50, 40, 0.0).bounding_box()[0]
    touching, beyond = Scripted(-0.5 - x_min), Scripted(-0.51 - x_min)
    assert draw_inside(touching, rng(), Ellipse(100, 270, 50, 40, 0.0), FRAME)[0][0, 2] == -50.5
    assert draw_inside(beyond, rng(), Ellipse(100, 270, 50, 40, 0.0), FRAME, max_draws=1)[0][0, 2] == 0


def test_cut_head_is_moved_only_by_draws_that_bring_it_inside():
    cut = Ellipse(100, 270, 150, 120, 0.0)
    assert np.array_equal(draw_inside(Scripted(10.0), rng(), cut, FRAME, max_draws=1)[0], UNIT)
    assert draw_inside(Scripted(60.0), rng(), cut, FRAME, max_draws=1)[0][0, 2] == 60


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Rotation(10.0, -10.0), r"Rotation needs low <= high. Received: 10.0 and -10.0"),
        (lambda: Rotation(float("nan"), 1.0), r"Rotation needs low <= high. Received: nan"),
        (lambda: Scaling(1.2, 0.8), r"Scaling needs low <= high. Received: 1.2 and 0.8"),
        (lambda: Scaling(0.0, 1.0), r"Scaling needs positive factors. Received: 0.0"),
        (lambda: HorizontalFlip(1.5), r"HorizontalFlip needs a probability of 0 to 1. Received: 1.5"),
        (lambda: HorizontalFlip(-0.1), r"HorizontalFlip needs a probability of 0 to 1. Received: -0.1"),
        (lambda: Translation(-4.0, 2.0), r"Translation shifts to either side by .*Received: -4.0 and 2.0"),
        (lambda: Translation(4.0, math.inf), r"Translation shifts to either side by .*Received: 4.0 and inf"),
        (lambda: CropResize(700, 50, 100, 500), r"CropResize needs left < right and top < bottom"),
        (lambda: CropResize(100, 500, 700, 500), r"Received: \(100, 500\) to \(700, 500\)"),
        (lambda: CropResize(shift_px=-5), r"CropResize shifts to either side by .*Received: -5"),
        (lambda: Chain(()), r"Chain takes a tuple of one or more transforms.*Received: \(\)"),
        (lambda: OneOf(()), r"OneOf takes a tuple of one or more transforms.*Received: \(\)"),
        (lambda: OneOf((Rotation(), 3)), r"OneOf takes a tuple.*objects with draw\(rng, shape\)"),
    ],
)
def test_parameters_that_make_no_sense(build, words):
    with pytest.raises(ValueError, match=words):
        build()
