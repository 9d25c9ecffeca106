#!/usr/bin/env bash
# all.sh [GUEST …]: makes the virtual Pi where there is none, runs drivers, units and powercut in it, or those that are
# named, and judges what they print.  Ends with 1 if any check failed or a guest did not come to its end.
# CUTS=5 (how often powercut cuts the power)  SEED= (of its chances; its log says which it was)
set -euo pipefail

readonly here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly checkout=$(cd "$here/../.." && pwd)
readonly vm=${VM:-$checkout/.vm} venv=${VENV:-$checkout/.venv}
export VM=$vm VENV=$venv

"$here/build.sh" "$vm" >&2
# The board's own libraries, which nothing else of the tests needs.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps rpi-lgpio lgpio >&2
# The guest sees this tree read-only and is slow: what can be compiled here is not compiled there.
"$venv/bin/python" -m compileall -q "$checkout"/{drivers,edge,migrations,sync,tests/vm}

# One life of a guest is enough, but for the one whose power is cut.
run() {
    case $1 in
        powercut)
            (cd "$checkout" && PATH="$PATH:/sbin:/usr/sbin" "$venv/bin/python" -m tests.vm.powercut \
                --cuts "${CUTS:-5}" ${SEED:+--seed "$SEED"}) ;;
        *) "$here/run.sh" "$here/guest/$1.sh" ;;
    esac
}

(($#)) || set -- drivers units powercut
failed=0
logs=()
for name in "$@"; do
    echo "== $name (log: $vm/$name.log)"
    logs+=("$vm/$name.log")
    run "$name" 2>&1 | tee "$vm/$name.log" |
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
