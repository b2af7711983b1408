"""Folders of photos: many files in, results and a journal out. :func:`predict_folder` is the way in."""

from fscs_sdk.folder.merge import Merged, merge_journals
from fscs_sdk.folder.run import DEFAULT_FORMATS, Plan, Settings, Summary, plan, predict_folder

__all__ = ["DEFAULT_FORMATS", "Merged", "Plan", "Settings", "Summary", "merge_journals", "plan", "predict_folder"]
