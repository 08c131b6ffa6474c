import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import storage
from pipelines.tables import read_table


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
def test_a_program_that_reads_and_ends_at_once_ends_well(tmp_path: Path) -> None:
    """pyarrow's scanner aborted one of four such programs."""
    pq.write_table(pa.table({"a": ["x"] * 9, "b": [b"y"] * 9}), tmp_path / "t.parquet")
    program = "import sys; from pipelines.tables import read_table; read_table(sys.argv[1]).to_pylist()"
    for _ in range(12):
        done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "t.parquet")], capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")
