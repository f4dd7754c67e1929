"""The benchmark of offline learning on the help desk runs at a small size and ends with one JSON object."""

import pytest

from benchmarkrun import last_line


@pytest.mark.slow
def test_every_way_has_its_figures(tmp_path):
    found = last_line("offline_desk.py", "--quick", "--cache", tmp_path)
    assert found["quick"]
    assert found["starter"]["kl"]["value"] == 0
    for way in ("dpo", "ipo", "kto", "orpo", "simpo", "rft"):
        gain = found[way]["gold"]["value"] - found["starter"]["gold"]["value"]
        assert found[way]["gain"]["value"] == pytest.approx(gain)
        assert found[way]["kl"]["value"] > 0
