# shellcheck shell=bash
# Sourced by cold-reads and catch-up: a set of our brokers whose replicas are ended and started again. Needs scripts/env.sh, $bin
# (the programs), $WORK (a folder that is removed at the end) and $TOOL (the script's name).

SET_PID='' SET_CGROUP=''
say() { echo "$TOOL: $*" >&2; }

# start_set REPLICAS SETTINGS...: sets NAMESRV, STORES (directories) and the process ids, see pids_of
start_set() {
  local replicas=$1 i port=26876; shift
  NAMESRV="127.0.0.1:$port" PORT_BASE=$((port + 35)) SET_OUT="$WORK/set.out" STORES=()
  : >"$SET_OUT"
  "$bin/mqdemo" --serve --dir "$WORK/set" --namesrv-port "$port" --port-base "$PORT_BASE" --replicas "$replicas" -- "$@" >>"$SET_OUT" 2>&1 &
  SET_PID=$!
  # Before much memory is used; the brokers inherit it.
  [ -z "$SET_CGROUP" ] || echo "$SET_PID" >"$SET_CGROUP/cgroup.procs"
  for ((i = 0; i < replicas; i++)); do STORES+=("$WORK/set/broker-a-n$i/store"); done
  wait_pids 1
  wait_served
}

# limit_memory BYTES: the set that is started next gets a cgroup of its own, page cache included
limit_memory() {
  grep -qw memory /sys/fs/cgroup/cgroup.subtree_control 2>/dev/null || fail "--memory-max needs cgroup v2 with the memory controller"
  SET_CGROUP="/sys/fs/cgroup/raftmq-bench.$$"
  mkdir "$SET_CGROUP" && echo "$1" >"$SET_CGROUP/memory.max" || fail "no cgroup can be made"
}

# wait_pids N: until the set has told its process ids N times
wait_pids() {
  local i
  for ((i = 0; i < 1500; i++)); do
    [ "$(grep -c '^PIDS ' "$SET_OUT")" -lt "$1" ] || return 0
    kill -0 "$SET_PID" 2>/dev/null || break
    sleep 0.1
  done
  tail -n 20 "$SET_OUT" >&2
  fail "the set does not start"
}

# pids_of [REPLICA]: of all brokers, or of one
pids_of() { sed -n 's/^PIDS //p' "$SET_OUT" | tail -n 1 | tr ' ' '\n' | sed -n "s/^broker-a-n${1:-[0-9]*}=//p"; }

# master: which replica leads
master() {
  local addr
  addr="$("$bin/mqbench" --mode masters -n "$NAMESRV" -t "$PROBE_TOPIC" | sed -n 's/^broker-a=.*://p')"
  [ -n "$addr" ] || fail "the set has no master"
  echo $(((addr - PORT_BASE) / 10))
}

PROBE_TOPIC=probe
wait_served() {
  timeout 130 "$bin/mqbench" --mode probe -n "$NAMESRV" -t "$PROBE_TOPIC" --seconds 120 >&2 || { tail -n 20 "$WORK"/set/logs/*.log >&2; fail "the set takes no message"; }
}

# stop_replicas REPLICA...: asks them to end and waits for it
stop_replicas() {
  local replica pid i
  for replica in "$@"; do kill "$(pids_of "$replica")"; done
  for replica in "$@"; do
    pid="$(pids_of "$replica")"
    for ((i = 0; i < 600; i++)); do
      kill -0 "$pid" 2>/dev/null || continue 2
      sleep 0.1
    done
    fail "replica $replica does not end"
  done
}

# start_replicas: those that were ended
start_replicas() {
  local told
  told=$(grep -c '^PIDS ' "$SET_OUT")
  # mqdemo looks five times a second at what has ended.
  sleep 0.3
  kill -USR1 "$SET_PID"
  wait_pids $((told + 1))
}

# disk_read_mib: what the brokers have fetched from the disk since they started
disk_read_mib() {
  local pid sum=0
  for pid in $(pids_of); do sum=$((sum + $(sed -n 's/^read_bytes: //p' "/proc/$pid/io"))); done
  echo $((sum / 1048576))
}

stop_set() {
  if [ -n "$SET_PID" ]; then
    kill "$SET_PID" 2>/dev/null || true
    wait "$SET_PID" 2>/dev/null || true
  fi
  SET_PID=''
  [ -z "$SET_CGROUP" ] || rmdir "$SET_CGROUP" 2>/dev/null || true
}

# produce ARGS...: mqbench's JSON
produce() { "$bin/mqbench" --mode produce -n "$NAMESRV" -s 1024 --json "$@" || fail "mqbench failed"; }

# number JSON KEY: the value of a key that occurs once
number() { sed -nE "s/.*\"$2\":([0-9.eE+-]+).*/\\1/p" <<<"$1"; }
# complain JSON WHAT: if there were errors
complain() {
  local errors
  errors="$(sed -nE 's/.*"errors":(\{[^}]*\}).*/\1/p' <<<"$1")"
  [ "$errors" = "{}" ] || say "$2 had errors: $errors"
}
# median NUMBER...
median() { printf '%s\n' "$@" | sort -g | awk '{v[NR] = $1} END {print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2}'; }
# calc EXPRESSION FORMAT
calc() { awk "BEGIN {printf \"${2:-%.2f}\", $1}"; }
