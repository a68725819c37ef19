# shellcheck shell=bash
# Sourced by omb, java-programs, rust-peer and profile: one cluster at a time for clients that are not ours. Needs $HERE (this folder), scripts/env.sh,
# interop/lib.sh and $cases (names, separated by commas); builds and fetches what they need, makes the folder $WORK.
# shellcheck source=java-peer/servers.sh
. "$HERE/java-peer/servers.sh"

[[ $cases != *java-* ]] || install_java_servers
(cd "$HERE/.." && build_workspace >&2)

WORK="$(mktemp -d "${TMPDIR:-/tmp}/raftmq-omb.XXXXXX")"
OURS='' PEERS=() PIDS=''
stop_case() {
  local pid
  stop_java_servers
  for pid in "${PEERS[@]}"; do kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; done
  PEERS=()
  if [ -n "$OURS" ]; then kill "$OURS" 2>/dev/null || true; wait "$OURS" 2>/dev/null || true; fi
  OURS=''
}
trap 'stop_case; rm -rf "$WORK"' EXIT
trap 'exit 130' INT TERM
port="${CASE_PORT:-27876}" bin="$CARGO_TARGET_DIR/release"

# start_case CASE: until it takes messages; the name server is at 127.0.0.1:$port. PIDS: of its brokers, unless they are JVMs
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
    rust-peer)
      mkdir -p "$WORK/$1/conf"
      printf '%s\n' brokerClusterName=RaftMQCluster brokerName=broker-a brokerId=0 brokerIP1=127.0.0.1 "listenPort=$((port + 35))" \
        "namesrvAddr=127.0.0.1:$port" "storePathRootDir=$WORK/$1/store" "storePathCommitLog=$WORK/$1/store/commitlog" \
        brokerRole=ASYNC_MASTER flushDiskType=ASYNC_FLUSH >"$WORK/$1/conf/broker.conf"
      ROCKETMQ_HOME="$WORK/$1" HOME="$WORK/$1" "$PEER/bin/rocketmq-namesrv-rust" --listenPort "$port" --bindAddress 127.0.0.1 >"$WORK/namesrv.out" 2>&1 &
      PEERS+=("$!")
      NAMESRV_ADDR="127.0.0.1:$port" ROCKETMQ_HOME="$WORK/$1" HOME="$WORK/$1" "$PEER/bin/rocketmq-broker-rust" -c "$WORK/$1/conf/broker.conf" >"$WORK/$1.out" 2>&1 &
      PEERS+=("$!") PIDS=$! ;;
    *) die "no case $1" ;;
  esac
  timeout 130 "$bin/mqbench" --mode probe -n "127.0.0.1:$port" -t probe --seconds 120 >&2 || return
  [ -z "$OURS" ] || PIDS="$(sed -n 's/^PIDS //p' "$WORK/$1.out" | tail -n 1 | tr ' ' '\n' | sed -n 's/^broker-.*=//p' | paste -sd,)"
}
