#!/usr/bin/env bash
# Times MelFusion and the PyTorch peer in turn on this machine and prints the ratio of their medians (below 1: ours is faster).
#   benchmarks/side-by-side.sh PEER_FOLDER [CASE...] [--rounds N] [--dtype fp32|bf16|both] [--threads N] [--clock wall|cpu] [--runs N]
#                              [--seconds S] [--peer OPTION]...
# PEER_FOLDER holds bench.py, and either the unpacked packages or unpack.sh, which then unpacks them into PEER_TREE (default: a folder
# under the temporary folder that is kept for the next time). --peer passes an option to bench.py alone, e.g. --peer --compile.
# The case generate runs peer-generate.py beside it, which states what it does, on MODEL (default: models/melfusion-mini); 25 steps on
# both sides. On a machine that does other work as well: --threads 1 --clock cpu.
set -euo pipefail

[ $# -ge 1 ] && [ -f "$1/bench.py" ] || { sed -n '2,8s/^# \?//p' "$0" >&2; exit 2; }
peer=$(cd "$1" && pwd); shift
root=$(cd "$(dirname "$0")/.." && pwd)
model=$(realpath "${MODEL:-$root/models/melfusion-mini}")
python=${PYTHON:-python3.11}
rounds=3 dtype=both cases=() shared=() only_peer=()
while [ $# -gt 0 ]; do
    case $1 in
        --rounds) rounds=$2; shift 2 ;;
        --dtype) dtype=$2; shift 2 ;;
        --peer) only_peer+=("$2"); shift 2 ;;
        --threads | --clock | --runs | --seconds) shared+=("$1" "$2"); shift 2 ;;
        --*) echo "$0: unknown option $1" >&2; exit 2 ;;
        *) cases+=("$1"); shift ;;
    esac
done
[ ${#cases[@]} -gt 0 ] || cases=(unet-mini unet-mini-image hifigan train-mini)

tree=$peer
if [ ! -d "$peer/torch" ]; then
    tree=${PEER_TREE:-${TMPDIR:-/tmp}/melfusion-peer}
    [ -d "$tree/torch" ] || "$peer/unpack.sh" "$tree" >&2
    tree=$(realpath "$tree")
fi

ours=$root/artifacts/bin/MelFusion.Benchmarks/release/MelFusion.Benchmarks
dotnet build "$root/benchmarks/MelFusion.Benchmarks" -c Release --nologo -v q >&2
cd "$root" # the sample picture lies there

# One line of the peer: peer NAME PRECISION
run_peer() {
    if [ "$1" = generate ]; then
        "$python" benchmarks/peer-generate.py --model "$model" --packages "$tree" --dtype "$2" "${shared[@]}"
    else
        PYTHONPATH=$tree "$python" "$peer/bench.py" "$1" --dtype "$2" "${shared[@]}" "${only_peer[@]}"
    fi
}

lines=$(mktemp)
trap 'rm -f "$lines"' EXIT
[ "$dtype" = both ] && dtypes=(fp32 bf16) || dtypes=("$dtype")
for ((round = 1; round <= rounds; round++)); do
    for name in "${cases[@]}"; do
        for precision in "${dtypes[@]}"; do
            "$ours" "$name" --dtype "$precision" --model "$model" "${shared[@]}" | sed 's/^{/{"who":"ours",/' | tee -a "$lines" >&2
            run_peer "$name" "$precision" | sed 's/^{/{"who":"peer",/' | tee -a "$lines" >&2
        done
    done
done

"$python" - "$lines" <<'PYTHON'
import json, statistics, sys

medians, fractions = {}, {}
for line in map(json.loads, open(sys.argv[1])):
    if "skipped" not in line:
        key = line["case"], line["precision"], line["who"]
        medians.setdefault(key, []).append(line["median_s"])
        fractions.setdefault(key, []).append(line["roofline_fraction"] or 0)  # 0: not counted
print("| case | precision | ours s (fraction) | peer s (fraction) | ours / peer |\n| --- | --- | --- | --- | --- |")
for case, precision in dict.fromkeys(key[:2] for key in medians):
    if all((case, precision, who) in medians for who in ("ours", "peer")):
        (a, fa), (b, fb) = [[statistics.median(d[case, precision, who]) for d in (medians, fractions)] for who in ("ours", "peer")]
        print(f"| {case} | {precision} | {a:.4g} ({fa:.2f}) | {b:.4g} ({fb:.2f}) | {a / b:.3f} |")
PYTHON
