"""accord doctor chooses the checks that fit what a folder holds."""

from pathlib import Path

import pytest

from accord.errors import NumericsError
from accord.lm.classifier import SequenceClassifier
from accord.lm.render import Template
from accord.lm.tiny import write_tiny
from accord.recipes.checkup import check_model
from accord.reward.model import CLASSES, SETTINGS, RewardModel


def test_a_reward_model_of_two_classes_is_checked_as_one(tmp_path: Path) -> None:
    """Damage to its own settings is found; a bare classifier's checks would not read them."""
    classifier = SequenceClassifier.load(write_tiny(tmp_path / "base", labels=2), template=Template.HH)
    classifier.name_labels(CLASSES)
    RewardModel(classifier, 0.5, 2.0).save(tmp_path / "reward")
    checks = check_model(str(tmp_path / "reward"))
    assert checks
    assert all(check.passed for check in checks)
    settings = tmp_path / "reward" / SETTINGS
    settings.write_text(settings.read_text().replace('"std": 2.0', '"std": 0.0'))
    with pytest.raises(NumericsError, match="standard deviation"):
        check_model(str(tmp_path / "reward"))
