import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import storage
from pipelines.storage.parquet import read_table


def test_a_file_is_read_whole_or_by_columns(tmp_path: Path) -> None:
    table = pa.table({"a": [1, 2], "b": ["x", "y"]})
    pq.write_table(table, tmp_path / "t.parquet")
    assert read_table(str(tmp_path / "t.parquet")).equals(table)
    storage.write_bytes("memory://tables/t.parquet", (tmp_path / "t.parquet").read_bytes())
    assert read_table("memory://tables/t.parquet", ["b"]).to_pydict() == {"b": ["x", "y"]}


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(ValueError, match=r"t\.parquet cannot be read"):
        read_table(str(tmp_path / "t.parquet"))
    with pytest.raises(FileNotFoundError):
        read_table(str(tmp_path / "gone.parquet"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_reading_starts_no_thread(tmp_path: Path) -> None:
    """A short program that ends beside Arrow's threads aborts now and then: with pyarrow's scanner one of four did."""
    pq.write_table(pa.table({"a": ["x"] * 9, "b": [b"y"] * 9}), tmp_path / "t.parquet")
    program = """
import os, sys
from pipelines import storage
from pipelines.storage.parquet import read_table

storage.read_bytes(sys.argv[1])
before = os.listdir("/proc/self/task")
assert read_table(sys.argv[1]).num_rows == 9
assert os.listdir("/proc/self/task") == before
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "t.parquet")], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
