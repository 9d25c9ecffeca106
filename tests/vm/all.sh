#!/usr/bin/env bash
# all.sh [GUEST …]: makes the virtual Pi where there is none, runs guest/drivers.sh and guest/units.sh in it, or those
# that are named, and judges what they print.  Ends with 1 if any check failed or a guest did not come to its end.
set -euo pipefail

readonly here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly checkout=$(cd "$here/../.." && pwd)
readonly vm=${VM:-$checkout/.vm} venv=${VENV:-$checkout/.venv}
export VM=$vm VENV=$venv

"$here/build.sh" "$vm" >&2
# The guest sees this tree read-only and is slow: what can be compiled here is not compiled there.
"$venv/bin/python" -m compileall -q "$checkout"/{drivers,edge,migrations,sync,tests/vm}

(($#)) || set -- drivers units
failed=0
logs=()
for name in "$@"; do
    echo "== $name (log: $vm/$name.log)"
    logs+=("$vm/$name.log")
    "$here/run.sh" "$here/guest/$name.sh" 2>&1 | tee "$vm/$name.log" |
        sed -un -e 's/\r$//' -e '/^\(PASS\|FAIL\) /p' || true
    if ! grep -qaE "^END $name 0" "$vm/$name.log"; then
        if ! grep -qaE "^END $name" "$vm/$name.log"; then
            echo "FAIL $name: the guest did not come to its end; see $vm/$name.log"
        fi
        failed=1
    fi
done
passes=$(cat "${logs[@]}" | grep -ca '^PASS ' || true)
fails=$(cat "${logs[@]}" | grep -ca '^FAIL ' || true)
echo "== $passes passed, $fails failed"
((fails == 0)) || failed=1
exit "$failed"
