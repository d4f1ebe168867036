"""The GPU kit's results; `benchmarks/gpu/run.sh FOLDER --rehearse` rehearses the kit itself."""

from benchmarks.gpu.results import Results, read, table
from benchmarks.gpu.speed import cases


def test_rows_become_tables_with_pytorch_beside_ours(tmp_path):
    results = Results(tmp_path, "speed", 100)
    case = {"network": "lpdiff", "program": "denoiser", "precision": "bfloat16", "batch": 8}
    results.add(limit="product, bfloat16", value=790.0, unit="TFLOP/s")
    results.add(by="ours", **case, ms=2.0, of_peak=0.5, of_bandwidth=0.25)
    results.add(by="eager", **case, ms=5.0)
    results.add(check="psi", error=1e-6, bound=1e-4, passed=True)
    results.add(status=0, seconds=12)
    results.add(kernel="conv", ms=1.0, share=0.5)
    text = table(read(tmp_path))
    assert (
        "| lpdiff | denoiser | bfloat16 | 8 | 2.000 | 50.0% | 25.0% | 5.000 |  | 2.50 |  |" in text
    )
    assert "| psi | 1.00e-06 | 1e-04 | True |" in text
    assert "| product, bfloat16 | 790 TFLOP/s |" in text
    assert "| speed | 0 | 12 |" in text
    assert "| `conv` | 1.000 | 50.0% |" in text


def test_time_is_kept(tmp_path):
    results = Results(tmp_path, "speed", 30)
    assert results.in_time()
    assert not results.in_time(40)


def test_what_tells_most_is_measured_first():
    first, *_ = cases(rehearse=False)
    assert (first.network, first.precision) == ("lpdiff", "bfloat16")
    assert len(set(cases(rehearse=False))) == len(cases(rehearse=False))
