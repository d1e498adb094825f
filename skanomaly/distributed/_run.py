"""A folder with the rows of a run of scoring, part by part."""

from __future__ import annotations

import io
import json

from .._atomic import replaced
from .._rows import COLUMN_TYPES, HEADER, as_csv, cells, counts_of, read_rows
from ._inputs import blocks


class Run:
    """A folder with the rows of a run, part by part.

    Parameters
    ----------
    folder : Path
    format : {"csv", "parquet"}
    n_files, chunk_size : int
        Images of the run, and of each part but the last.

    Raises
    ------
    ValueError
        If the format is another one.
    ImportError
        If it needs what is not installed.
    """

    def __init__(self, folder, format, n_files, chunk_size):
        if format not in ("csv", "parquet"):
            raise ValueError(f'format must be "csv" or "parquet", got {format!r}')
        if format == "parquet":
            import pyarrow  # noqa: F401  before there is anything to lose
        self.folder, self.format = folder, format
        self.n_files, self.chunk_size = n_files, chunk_size
        self.blocks = blocks(n_files, chunk_size)

    @classmethod
    def in_folder(cls, folder):
        """The run whose rows a folder holds; ValueError if it holds none."""
        said = _said_in(folder)
        return cls(folder, said["format"], said["n_files"], said["chunk_size"])

    def claim(self, what):
        """Make the folder this run's, if it is not another's."""
        names = ("format", "n_files", "chunk_size")
        said = {name: getattr(self, name) for name in names} | what
        path = self.folder / "run.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            earlier = _said_in(self.folder)
            differing = [name for name in said if earlier.get(name) != said[name]]
            if differing:
                name = differing[0]
                raise ValueError(
                    f"{self.folder} holds scores of another run: its {name} was "
                    f"{earlier.get(name)}, now it is {said[name]}; name another folder, or remove "
                    "this one"
                )
            return
        with replaced(path) as file:
            file.write(json.dumps(said, indent=1).encode())

    def path_of(self, i):
        """The file of part i."""
        digits = max(4, len(str(len(self.blocks) - 1)))
        return self.folder / f"part-{i:0{digits}d}.{self.format}"

    def rows_of(self, i):
        """The rows of part i, dicts as of `row_of`; ValueError if they are not there as written."""
        path = self.path_of(i)
        if not path.exists():
            raise ValueError(f"{path} is missing: the run has not ended; call score_files again")
        rows = read_rows(path)[0] if self.format == "csv" else _read_parquet(path)
        if len(rows) != len(self.blocks[i]):
            raise ValueError(
                f"{path} has {len(rows)} rows, expected {len(self.blocks[i])}: it was changed; "
                "remove it, and call score_files again"
            )
        return rows

    def counts_of(self, i):
        """What a part that is there comes to; None if it is to be scored, or scored anew."""
        if not self.path_of(i).exists():
            return None
        counts = counts_of(self.rows_of(i))
        return None if counts["n_failed"] else counts

    def write(self, i, rows):
        """Write the rows of part i, all or none."""
        with replaced(self.path_of(i)) as file:
            if self.format == "csv":
                file.write(HEADER + as_csv(map(cells, rows)))
            else:
                _write_parquet(rows, file)


def _said_in(folder):
    """What the folder of a run says of it."""
    try:
        said = json.loads((folder / "run.json").read_text())
        known = {name: said[name] for name in ("format", "n_files", "chunk_size")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{folder} holds no scores of score_files ({type(error).__name__}: {error}); name "
            "another folder, or remove this one"
        ) from error
    return said | known


def _write_parquet(rows, file):
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in COLUMN_TYPES.items()])
    content = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows, schema=schema), content)
    file.write(content.getvalue())


def _read_parquet(path):
    from pyarrow import parquet

    return parquet.read_table(path).to_pylist()
