# What the scripts that set things up share; sourced, from the top folder.

fail() {
  echo "isat: $1" >&2
  exit 1
}

# attempt WHAT COMMAND...: runs it with its output kept in the file $output, and shows that time passes.
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

# step WHAT COMMAND...: the same for what must succeed.
step() {
  if ! attempt "$@"; then
    cat "$output" >&2
    rm -f "$output"
    fail "cannot go on as the step failed: $what"
  fi
  rm -f "$output"
}

install_packages() {
  # Packages that carry a service would start it: for the time of the installation, policy-rc.d says no (invoke-rc.d(8)).
  policy=/usr/sbin/policy-rc.d
  [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy && ours=yes; }
  apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
  status=$?
  [ "${ours-}" != yes ] || rm -f $policy
  return $status
}

# ensure_packages: reads lines of a file or command that shows that a package is there, and the package; installs those
# that are missing.
ensure_packages() {
  missing=
  while read -r sign package; do
    [ -e "$sign" ] || command -v "$sign" >/dev/null || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null || fail "cannot install$missing as this is no Debian. Install them by hand"
  # shellcheck disable=SC2086 # a list of packages
  step "Debian packages:$missing" install_packages $missing
}
