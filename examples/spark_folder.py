"""A folder of photos -> answers in Parquet, on Spark.

Usage: python examples/spark_folder.py PHOTOS SUPPORTS OUT, with SUPPORTS from 'fscs encode'
(pip install 'fscs-sdk[formats]' pyspark pandas pyarrow)
"""

import sys
from collections.abc import Iterator

import pandas as pd
from pyspark.sql import SparkSession

photos, supports, out = sys.argv[1:]


def answers(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Photos of a task, in batches -> what is in them."""
    from fscs_sdk.integrations.ray import Predictor  # it needs nothing of Ray

    predictor = Predictor(supports=supports)  # once for each task
    for batch in batches:
        found = predictor({"path": batch["path"].to_numpy(), "bytes": batch["content"].to_numpy()})
        yield pd.DataFrame({name: list(column) for name, column in found.items()})


session = SparkSession.builder.appName("fscs").getOrCreate()
session.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "64")  # else 10,000 photos are in memory at once
schema = "path string, present array<boolean>, scores array<float>, masks string, error string"
files = session.read.format("binaryFile").option("recursiveFileLookup", "true").load(photos)
files.select("path", "content").mapInPandas(answers, schema).write.mode("overwrite").parquet(out)
session.stop()
