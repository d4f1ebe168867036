"""`eval.py` hands on what its flags say."""

import sys

import pytest

from tests.training.tiny import ROOT, run


@pytest.mark.parametrize("sets", [["nowhere"], ["first=nowhere", "second=elsewhere"]])
def test_the_set_that_is_named_is_looked_for(sets, tmp_path):
    words = [sys.executable, str(ROOT / "eval.py"), f"--config={ROOT / 'configs/quickstart.py'}"]
    words += [f"--workdir={tmp_path}", "--model=none", "--judges=", *(f"--data={s}" for s in sets)]
    done = run(words)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("eval.py: nowhere: "), done.stderr
