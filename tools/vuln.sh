#!/bin/bash
# Look for known vulnerabilities in the code that scopefs really calls.
# A found one is an error. A database that cannot be reached is a warning: a
# machine without that network must still be able to build and test.
set -euo pipefail
cd "$(dirname "$0")/.."

rc=0
out=$(go tool -modfile=tools/go.mod govulncheck "$@" ./... 2>&1) || rc=$?
printf '%s\n' "$out"
if ((rc != 0)) && [[ $out == *"fetching vulnerabilities:"* ]]; then
	echo "WARNING: the vulnerability database could not be reached: nothing was checked." >&2
	exit 0
fi
exit "$rc"
