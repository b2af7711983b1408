"""Many photos in, files and a journal out; in the order of the data: inputs, places, plan, pipeline, journal."""

from fscs_sdk.folder.inputs import InputsError
from fscs_sdk.folder.journal import Record, read_journal
from fscs_sdk.folder.merge import Merged, merge_journals
from fscs_sdk.folder.plan import Plan
from fscs_sdk.folder.run import DEFAULT_FORMATS, Summary, parse_shard, plan_folder, predict_folder

__all__ = [
    "DEFAULT_FORMATS",
    "InputsError",
    "Merged",
    "Plan",
    "Record",
    "Summary",
    "merge_journals",
    "parse_shard",
    "plan_folder",
    "predict_folder",
    "read_journal",
]
