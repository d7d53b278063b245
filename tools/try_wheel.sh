#!/bin/sh
# sh tools/try_wheel.sh WHEEL [PYTHON]: installs a wheel into a fresh environment where no compiler is
# found, and has SmolLM2 answer once. Prints the seconds from the beginning to the answer.
set -eu
wheel=$(realpath "$1")
python=${2:-python3}
folder=$(mktemp -d)
server=
trap 'test -z "$server" || kill "$server"; wait; rm -rf "$folder"' EXIT
began=$(date +%s)
cd "$folder"
"$python" -m venv venv
venv/bin/python -m pip --disable-pip-version-check install --quiet --only-binary :all: "$wheel"
# The model goes where the shell's user would look for it, and is not what is tested.
env PATH="$folder/venv/bin" HOME="$folder" LLM_PORT=0 venv/bin/sheily serve smollm2 --fetch >log 2>&1 &
server=$!
tries=0
until grep -q ' ready' log; do
    tries=$((tries + 1))
    if [ $tries -gt 300 ] || ! kill -0 "$server"; then
        cat log
        exit 1
    fi
    sleep 1
done
url=$(sed -n 's/.*listening on \(http[^ ]*\).*/\1/p' log)
PATH="$folder/venv/bin" venv/bin/sheily ask --url "$url" 'Where is the Eiffel Tower?'
echo "first answer after $(($(date +%s) - began)) s"
