"""Generated files are complete. `reconpatch schemas --check`, which is part of `make lint`, finds stale ones."""

import shutil
from argparse import Namespace

import pytest
import yaml
from running import ROOT

from reconpatch.cli.replication import write_generated
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.config import DEFAULT, Config, read_config
from reconpatch.experiments.generated import default_text, generated_files, reference
from reconpatch.experiments.run import DEFAULTS, RunSettings

CONTENT = yaml.safe_load((ROOT / DEFAULT).read_text())


def test_default_yaml_keeps_the_values_of_general_keys_and_has_the_baseline_of_the_code() -> None:
    changed = CONTENT | {"tolerance": 0.7, "weight_files": {"resnet18": "a b.pth"}, "baseline": {}}
    written = yaml.safe_load(default_text(changed))
    assert written == changed | {"baseline": DEFAULTS.model_dump(mode="json")}
    assert read_config(written).baseline == DEFAULTS


def test_every_key_is_explained() -> None:
    for model in (Config, RunSettings):
        for key, field in model.model_fields.items():
            assert field.description, key
            assert f"| `{key}` |" in reference(CONTENT)


def test_stale_files_are_named(tmp_path, monkeypatch) -> None:
    (tmp_path / "workflow").symlink_to(ROOT / "workflow")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs/datasets.md", tmp_path / "docs")  # written in part
    monkeypatch.chdir(tmp_path)
    for file, text in generated_files().items():
        if file.parent.name == "docs":
            file.write_text(text)
    write_generated(Namespace(check=True))
    (tmp_path / "docs/configuration.md").write_text("old")
    with pytest.raises(ReconpatchError) as error:
        write_generated(Namespace(check=True))
    assert error.value.where == "docs/configuration.md" and "reconpatch schemas" in error.value.fix
