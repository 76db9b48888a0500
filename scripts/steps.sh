# Functions for the scripts that set things up, which source this file from the top folder.

fail() {
  echo "isat: $1" >&2
  exit 1
}

# attempt WHAT COMMAND...: runs the command, prints dots meanwhile, and keeps its output in the file $output.
attempt() {
  what=$1
  shift
  output=$(mktemp)
  started=$(date +%s)
  printf '==> %s ' "$what"
  "$@" >"$output" 2>&1 </dev/null &
  job=$!
  trap 'kill $job 2>/dev/null; exit 130' INT TERM
  while kill -0 $job 2>/dev/null; do
    sleep 1
    [ $((($(date +%s) - started) % 5)) -ne 4 ] || printf '.'
  done
  status=0
  wait $job || status=$?
  trap - INT TERM
  [ $status -eq 0 ] && echo "done in $(($(date +%s) - started)) s" || echo "FAILED"
  return $status
}

# step WHAT COMMAND...: runs a command that must succeed; if it fails, shows its output and ends.
step() {
  if ! attempt "$@"; then
    cat "$output" >&2
    rm -f "$output"
    fail "cannot go on as the step failed: $what"
  fi
  rm -f "$output"
}

install_packages() {
  # A package with a service would start it, unless policy-rc.d forbids it during the installation (invoke-rc.d(8)).
  policy=/usr/sbin/policy-rc.d
  [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy && ours=yes; }
  apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
  status=$?
  [ "${ours-}" != yes ] || rm -f $policy
  return $status
}

# ensure_packages: reads lines "FILE-OR-COMMAND PACKAGE", and installs each package whose file or command is missing.
ensure_packages() {
  missing=
  while read -r sign package; do
    [ -e "$sign" ] || command -v "$sign" >/dev/null || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null || fail "cannot install$missing as this is not Debian. Install them by hand"
  # shellcheck disable=SC2086 # a list of packages
  step "Debian packages:$missing" install_packages $missing
}
