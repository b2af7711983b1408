"""A folder of photos -> answers in Parquet, on Dask.

Usage: python examples/dask_folder.py PHOTOS SUPPORTS OUT, with SUPPORTS from 'fscs encode'
(pip install 'fscs-sdk[formats]' 'dask[dataframe,distributed]')
"""

import sys
from pathlib import Path

import dask.dataframe as dd
import pandas as pd
import pyarrow as pa
from dask.distributed import Client

PHOTOS_AT_ONCE = 500  # a part: enough to be worth loading the model once for it
LISTS = {"present": pa.list_(pa.bool_()), "scores": pa.list_(pa.float32())}
SCHEMA = pa.schema({"path": pa.string(), **LISTS, "masks": pa.string(), "error": pa.string()})


def answers(part: pd.DataFrame, supports: str) -> pd.DataFrame:
    """The photos of a part -> what is in them."""
    from fscs_sdk.integrations.ray import Predictor  # it needs nothing of Ray

    found = Predictor(supports=supports)({"path": part["path"].to_numpy()})
    return pd.DataFrame({name: list(column) for name, column in found.items()}, index=part.index, dtype=object)


if __name__ == "__main__":
    photos, supports, out = sys.argv[1:]
    with Client(processes=True, n_workers=2, threads_per_worker=1):  # or Client("tcp://scheduler:8786")
        paths = sorted(str(path) for path in Path(photos).rglob("*") if path.is_file())
        parts = dd.from_pandas(pd.DataFrame({"path": paths}), chunksize=PHOTOS_AT_ONCE)
        found = parts.map_partitions(answers, supports, meta=dict.fromkeys(SCHEMA.names, object))
        found.to_parquet(out, schema=SCHEMA, write_index=False)
