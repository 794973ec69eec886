"""Training: what it learns from, that it learns, and that a killed run goes on as if nothing had happened."""

import numpy as np
import pytest
import torch
from drawn import picture
from skimage.measure import label

from plateline import metrics
from plateline.errors import ConfigError, ModelError
from plateline.models import crops, groups, training
from plateline.models import fit as fitting
from plateline.models.fit import TARGETS, Recipe, fit
from plateline.models.light import CURVES
from plateline.models.loss import Foreground, foreground_loss
from plateline.models.unet import WIDTHS, UNet, shape_of, to_arrays

JUDGE = Foreground(focal=0.0, overlap=1.0, missed=0.5, doubt=0.0)
LENGTH = {"steps": 4, "batch": 2, "crop_px": 32, "check_steps": 2, "patience": 9}
RECIPE = Recipe(**LENGTH, diameter_px=12.0, learning_rate=2e-3, seed=0, foreground=JUDGE)


def drawn(count=4, side=48):
    """Pictures of discs with their labels."""
    rng = np.random.default_rng(0)
    images = [picture(rng.uniform(8, side - 8, (3, 2)), radius=6, shape=(side, side), seed=n) for n in range(count)]
    return images, [label(image > 60).astype(np.int32) for image in images]


def run(recipe=RECIPE, begin=None, method="flow"):
    images, labels = drawn()
    held_out = np.arange(4) == 3
    return list(
        fit(
            images,
            labels,
            held_out,
            source=np.array([0, 0, 1, 2]),
            method=method,
            recipe=recipe,
            begin=begin or {},
        )
    )


# --- crops


def test_crops_are_seeded_and_show_whole_labels():
    images, labels = drawn()
    pool = crops.pool(images, labels, diameter_px=np.full(4, 12.0), weight=np.ones(4), device=torch.device("cpu"))
    first, second = (
        crops.draw(pool, crops.roll(5, torch.device("cpu")), count=6, side=48, diameter_px=12.0) for _ in range(2)
    )
    torch.testing.assert_close(first, second)
    image, found = first
    assert image.shape == found.shape == (6, 48, 48)
    assert torch.isfinite(image).all()
    assert int(found.min()) >= -1
    assert int(found.max()) > 0


def test_a_sample_at_the_pixels_themselves_is_the_image():
    images, labels = drawn(1)
    pool = crops.pool(images, labels, diameter_px=np.ones(1), weight=np.ones(1), device=torch.device("cpu"))
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    places = torch.stack([y, x], -1)[None] + 0.5
    found = crops._sample(pool, 0, torch.zeros(1, dtype=torch.long), places)
    np.testing.assert_allclose(found[0].numpy(), images[0], rtol=1e-5)
    mirrored = crops._mirrored(torch.tensor([[[-2, 0, 3, 4, 9]]]), torch.tensor([4]))
    assert mirrored.tolist() == [[[2, 0, 3, 2, 0]]]


def test_crowded_crops_keep_their_own_nuclei_and_gain_whole_ones():
    image, labels = torch.zeros(2, 20, 20), torch.zeros(2, 20, 20, dtype=torch.long)
    labels[0, 2:6, 2:6], labels[1, 4:9, 4:9], labels[1, 12:15, 12:15] = 1, 1, 2
    image[labels > 0] = 1.0
    seen = set()
    for seed in range(20):
        _, found = crops._crowd(image, labels, crops.roll(seed, torch.device("cpu")))
        assert bool((found[0][labels[0] > 0] == 1).all())
        seen.add(int((found[0] > 0).sum()) - 16)
    assert seen == {0, 9}  # the guest that overlaps never comes


# --- the loop


@pytest.mark.parametrize("method", TARGETS)
def test_training_lowers_the_loss(method):
    checks = run(RECIPE._replace(steps=30, check_steps=10), method=method)
    assert [check.step for check in checks] == [10, 20, 30]
    assert checks[-1].loss < checks[0].loss


def test_a_killed_training_goes_on_as_if_nothing_had_happened():
    whole = run()
    state = next(iter(run(RECIPE._replace()))).state
    rest = run(begin=state)
    assert [check.step for check in rest] == [4]
    for name, array in whole[-1].weights.items():
        np.testing.assert_array_equal(rest[-1].weights[name], array)


def test_a_training_killed_after_its_last_step_ends_where_it_was():
    whole = run()
    again = run(begin=whole[-1].state)
    assert [check.step for check in again] == [4]
    np.testing.assert_array_equal(again[0].weights["head.weight"], whole[-1].weights["head.weight"])
    np.testing.assert_array_equal(again[0].curve, whole[-1].curve)


def test_the_curve_of_a_killed_training_is_that_of_the_whole():
    whole = run()
    rest = run(begin=whole[0].state)
    assert whole[-1].curve[:, 0].tolist() == [2, 4]
    np.testing.assert_array_equal(rest[-1].curve, whole[-1].curve)


def test_training_starts_from_given_weights():
    first = run()[-1].weights
    again = run(RECIPE._replace(steps=1, check_steps=1, learning_rate=1e-9), begin=first)[-1].weights
    np.testing.assert_allclose(again["head.weight"], first["head.weight"], atol=1e-4)


def test_a_wider_network_is_narrowed_where_training_starts():
    wide = to_arrays(UNet(CURVES, TARGETS["flow"].outputs, widths=(32, 64, 96, 128), down=(1, 2, 2, 2)))
    again = run(RECIPE._replace(steps=1, check_steps=1), begin=wide)[-1].weights
    assert shape_of(again)["widths"] == [*WIDTHS]


def test_a_source_of_many_images_is_drawn_less_often_than_they_say():
    images, labels = drawn()
    source, rows = np.array([5, 5, 0, 2]), np.array([True, True, True, False])
    found = fitting.pool_of(images, labels, rows, source, torch.device("cpu")).weight
    root = np.sqrt([np.unique(label).size - 1 for label in labels[:3]])
    whole = [sum(other for other, of in zip(root, source, strict=False) if of == own) for own in source[:3]]
    expected = root / np.sqrt(whole)
    np.testing.assert_allclose(found / found.sum(), expected / expected.sum(), rtol=1e-6)


def test_training_ends_when_it_gets_no_better():
    checks = run(RECIPE._replace(steps=40, check_steps=1, patience=1, learning_rate=0.5))
    assert len(checks) < 40


@pytest.mark.parametrize("change", [{"crop_px": 40}, {"held": np.zeros(4, bool)}, {"held": np.ones(4, bool)}])
def test_what_cannot_train_is_refused(change):
    images, labels = drawn()
    recipe = RECIPE._replace(crop_px=change.get("crop_px", 32))
    held = change.get("held", np.arange(4) == 3)
    with pytest.raises(
        ConfigError, match=r"segment.fit: crops of \d+ px, \d of 4 images held out; expected a multiple"
    ):
        next(
            fit(
                images,
                labels,
                held,
                source=np.arange(4),
                method="flow",
                recipe=recipe,
                begin={},
            )
        )


def test_remedies_change_what_an_error_costs():
    raw, truth, weight = torch.tensor([[2.0, -2.0, 0.1]]), torch.tensor([[1.0, 0.0, 1.0]]), torch.ones(1, 3)
    plain = foreground_loss(raw, truth, weight, JUDGE._replace(overlap=0.0))
    assert plain == pytest.approx(float(torch.nn.functional.binary_cross_entropy_with_logits(raw, truth)))
    assert foreground_loss(raw, truth, weight, JUDGE._replace(overlap=0.0, focal=2.0)) < plain
    wrong = 1 - truth
    strict = foreground_loss(raw, wrong, weight, JUDGE._replace(overlap=0.0))
    assert foreground_loss(raw, wrong, weight, JUDGE._replace(overlap=0.0, doubt=0.5)) < strict
    few, many = (
        foreground_loss(torch.tensor([[-9.0, 9.0]]), torch.tensor([[1.0, 1.0]]), torch.ones(1, 2), how)
        for how in (JUDGE._replace(missed=0.1), JUDGE._replace(missed=0.9))
    )
    assert few < many


# --- groups


def fields(count, side, level, seed=0):
    rng = np.random.default_rng(seed)
    labels = [np.zeros((side, side), np.int32) for _ in range(count)]
    for found in labels:
        for y, x in rng.integers(0, side - 5, (6, 2)):
            found[y : y + 5, x : x + 5] = 1
    return [rng.poisson(level, (side, side)) + 3 * level * found for found in labels], labels


def test_images_of_one_source_are_a_group():
    parts = [fields(3, 32, 20), fields(3, 32, 200, 1), fields(2, 40, 20, 2)]
    images = [image for part in parts for image in part[0]]
    labels = [found for part in parts for found in part[1]]
    assert groups.sources(images, labels).tolist() == [0, 0, 0, 1, 1, 1, 2, 2]


def test_a_turned_copy_is_of_the_group_of_its_original_even_at_another_level():
    image = picture([(10, 12), (30, 20)], shape=(48, 48), radius=5).clip(0)
    images = [image, np.rot90(image) * 40, np.random.default_rng(0).poisson(9, (48, 48)) + 0.0]
    labels = [label(one > one.max() / 2).astype(np.int32) for one in images]
    group = groups.sources(images, labels)
    assert group[0] == group[1] != group[2]


def test_no_group_crosses_folds_and_sizes_are_spread():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 24, 200)
    stratum = rng.integers(0, 3, 200)
    fold = groups.folds(group, stratum, count=3, seed=0)
    for name in set(group):
        assert len(set(fold[group == name])) == 1
    for kind in range(3):
        assert np.bincount(fold[stratum == kind], minlength=3).min() > 0.15 * (stratum == kind).sum()
    np.testing.assert_array_equal(fold, groups.folds(group, stratum, count=3, seed=0))


def test_folds_are_as_equal_as_sources_allow_and_numbered_from_the_smallest():
    group = np.repeat(np.arange(6), [9, 8, 7, 3, 2, 2])
    # Each source has a size of its own, so that every fold is as good for it as any other.
    fold = groups.folds(group, group, count=3, seed=0)
    assert np.bincount(fold).tolist() == [10, 10, 11]


def test_no_fold_is_empty():
    assert sorted(groups.folds(np.array([0, 0, 1, 1]), ["a", "a", "b", "b"], count=2, seed=0)) == [0, 0, 1, 1]


def test_too_few_groups_are_refused():
    with pytest.raises(ModelError, match="2 groups of images cannot make 3 folds"):
        groups.folds(np.array([0, 0, 1]), [1, 1, 1], count=3, seed=0)


def test_held_out_images_share_no_source_with_the_others():
    parts = [fields(3, 32, 20), fields(3, 32, 200, 1), fields(2, 40, 20, 2)]
    pairs = [{"image": image, "labels": found} for part in parts for image, found in zip(*part, strict=True)]
    held_out = training.hold_out(pairs, training.sources(pairs), folds=3, fold=0, seed=0)
    group = groups.sources([pair["image"] for pair in pairs], [pair["labels"] for pair in pairs])
    assert not set(group[held_out]) & set(group[~held_out])
    assert 0 < held_out.sum() < len(pairs)


def test_fields_of_one_plate_are_held_out_by_wells():
    images, labels = fields(6, 32, 20)
    pairs = [{"well": f"A/0{n // 2}", "image": images[n], "labels": labels[n]} for n in range(6)]
    held_out = training.hold_out(pairs, training.sources(pairs), folds=3, fold=0, seed=0)
    assert held_out.sum() == 2
    assert held_out[::2].tolist() == held_out[1::2].tolist()


# --- what surrounds it


def test_a_card_says_what_a_model_is_worth():
    images, labels = drawn()
    pairs = [{"name": str(n), "image": images[n], "labels": labels[n]} for n in range(4)]
    found = training.score(run()[-1].weights, pairs, method="flow", diameter_px=12.0)
    assert set(found["image"]) == {"0", "1", "2", "3"}
    section = RECIPE._asdict() | JUDGE._asdict()
    del section["foreground"]
    section |= {"method": "flow", "stains": ["DAPI"], "modalities": ["fluorescence"], "data": "drawn"}
    card = training.card(section, pairs, np.arange(4) == 3, found)
    assert card["held_out_images"] == 1
    assert card["images"] == 3
    half = found[found["threshold"] == 0.5]
    assert card["held_out_ap50"] == pytest.approx(metrics.average_precision(half).mean(), abs=1e-4)
    assert training.recipe_of(section) == RECIPE
