# shellcheck shell=bash
# Sourced by omb and java-programs: one cluster at a time for clients that are not ours. Needs $HERE (this folder), scripts/env.sh,
# interop/lib.sh and $cases (names, separated by commas); builds and fetches what they need, makes the folder $WORK.
# shellcheck source=java-peer/servers.sh
. "$HERE/java-peer/servers.sh"

[[ $cases != *java-* ]] || install_java_servers
(cd "$HERE/.." && build_workspace >&2)

WORK="$(mktemp -d "${TMPDIR:-/tmp}/raftmq-omb.XXXXXX")"
OURS=''
stop_case() {
  stop_java_servers
  if [ -n "$OURS" ]; then kill "$OURS" 2>/dev/null || true; wait "$OURS" 2>/dev/null || true; fi
  OURS=''
}
trap 'stop_case; rm -rf "$WORK"' EXIT
trap 'exit 130' INT TERM
port="${CASE_PORT:-27876}" bin="$CARGO_TARGET_DIR/release"

# start_case CASE: until it takes messages; the name server is at 127.0.0.1:$port
start_case() {
  case $1 in
    java-async)
      java_namesrv namesrv "$port"
      java_broker java-async $((port + 35)) "$port" brokerId=0 brokerRole=ASYNC_MASTER brokerClusterName=RaftMQCluster ;;
    raftmq-1 | raftmq-3-sync)
      local replicas=3 role=SYNC_MASTER
      [ "$1" = raftmq-3-sync ] || replicas=1 role=ASYNC_MASTER
      "$bin/mqdemo" --serve --dir "$WORK/$1" --namesrv-port "$port" --port-base $((port + 35)) --replicas $replicas -- brokerRole=$role >"$WORK/$1.out" 2>&1 &
      OURS=$! ;;
    *) die "no case $1" ;;
  esac
  timeout 130 "$bin/mqbench" --mode probe -n "127.0.0.1:$port" -t probe --seconds 120 >&2
}
