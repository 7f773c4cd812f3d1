#!/bin/bash
# Run every fuzz target for a while: tools/fuzz.sh 30s
# `go test -fuzz` takes one target of one package at a time, hence the loop.
set -euo pipefail
cd "$(dirname "$0")/.."

time=${1:-30s}
for pkg in $(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./...); do
	for target in $(go test -list '^Fuzz' "$pkg" | grep '^Fuzz' || true); do
		echo "== $pkg $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$pkg"
	done
done
