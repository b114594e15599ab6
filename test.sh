#!/usr/bin/env bash
# Installs the Debian packages the tests need (where missing), builds, and runs every test that needs no special hardware.
set -euo pipefail
cd "$(dirname "$0")"

needed=()
command -v ffmpeg >/dev/null || needed+=(ffmpeg)
if [ ${#needed[@]} -gt 0 ]; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${needed[@]}"
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
run() { dotnet test MelFusion.slnx -c Release --nologo --logger "console;verbosity=minimal" "$@" 2>&1 | tee -a "$log" || status=$?; }
if [ $# -gt 0 ]; then
  run "$@"
else
  run --filter "Category!=Memory"
  DOTNET_TieredCompilation=0 MALLOC_ARENA_MAX=1 run --no-build --filter "Category=Memory" # what is measured is a whole process
fi
# The runner's summary as one plain line.
awk '/Failed:|Passed:/ { for (i = 1; i <= NF; i++) { if ($i == "Failed:") f += $(i+1); if ($i == "Passed:") p += $(i+1) } }
     END { printf "%d passed, %d failed\n", p, f }' "$log"
exit "$status"
