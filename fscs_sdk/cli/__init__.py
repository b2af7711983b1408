"""The ``fscs`` command, one file per subcommand, loaded when it is used: ``fscs --help`` is quick."""

from fscs_sdk.cli.group import FscsGroup, show_help

#: What ``fscs --help`` shows: section -> command -> what it is for, in one line. The command ``name`` is the click
#: command ``name`` of the module ``fscs_sdk.cli.name``; a line here is all that registers it.
SECTIONS = {
    "Start": {
        "demo": "Answer a question about real photos, offline.",
        "app": "Mark, ask and correct photos on a page in the browser.",
        "info": "Show versions, devices, cache and models.",
        "completion": "Print the shell's completion script.",
    },
    "Use": {
        "predict": "Answer photos and folders: masks, overlays, a journal.",
        "examine": "Which labelled photos are bad, and what to expect.",
        "encode": "Encode labelled photos once, into a file.",
        "export": "Write model and supports as ONNX or .pt2.",
        "merge": "Join the journals of a run that was split.",
    },
    "Measure": {
        "evaluate": "Measure models on VOC-animals and five other benchmarks.",
    },
    "Weights": {
        "convert": "Use a checkpoint of the paper's authors.",
        "weights": "List, fetch, verify, find and publish models' files.",
    },
}

main = FscsGroup(
    name="fscs",
    sections=SECTIONS,
    help="Is it there, and where? Few-shot classification and segmentation of photos.",
    callback=show_help,
)
