#!/usr/bin/env bash
# Everything that needs a CUDA device, in under eight minutes: installs, runs the `gpu` tests, and measures W1 to W4
# against the naive loop on the same device, with the share of the roofline, a profile, and the rates of the models
# that ship. Writes one JSON; a stage that fails is named in it, and the others go on.
#
#   benchmarks/gpu.sh [OUT.json]          PYTHON=python3 chooses the interpreter; it must have PyTorch with CUDA.
set -u
cd "$(dirname "$0")/.."
out=${1:-gpu.json}
python=${PYTHON:-python3}
log=$(mktemp -d)
failed=()

stage() {  # stage NAME SECONDS COMMAND...
  local name=$1 limit=$2; shift 2
  echo "== $name" >&2
  if ! timeout "$limit" "$@" >"$log/$name" 2>"$log/$name.err"; then
    failed+=("$name")
    tail -n 25 "$log/$name" "$log/$name.err" >&2
  fi
}

"$python" -c 'import fscs_sdk' 2>/dev/null ||
  stage install 120 "$python" -m pip install --quiet --no-build-isolation --no-deps --editable .
stage tests 150 "$python" -m pytest tests/test_gpu.py -q -p no:cacheprovider
tail -n 3 "$log/tests" >&2
stage benchmarks 180 "$python" -m benchmarks --quick --json --device "${DEVICE:-cuda}"
stage profile 60 "$python" -m benchmarks --json --device "${DEVICE:-cuda}" --profile W2

"$python" - "$log" "$out" "${failed[@]:-}" <<'PYTHON'
import json, sys
from pathlib import Path

log, out, failed = Path(sys.argv[1]), Path(sys.argv[2]), [name for name in sys.argv[3:] if name]
report = {"failed": failed, "tests": (log / "tests").read_text().splitlines()[-40:]}
for name in ("benchmarks", "profile"):
    try:
        report[name] = json.loads((log / name).read_text())
    except ValueError:
        report[name] = (log / f"{name}.err").read_text().splitlines()[-40:]
out.write_text(json.dumps(report, indent=2) + "\n")
print(f"{out}: {'everything ran' if not failed else 'failed: ' + ', '.join(failed)}")
PYTHON
[ ${#failed[@]} -eq 0 ]
