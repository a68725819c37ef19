# shellcheck shell=bash
# Sourced by what records RocketMQ 5.3.3, after lib.sh and temp_dir: its name server and a broker on ${RECORD_PORT:-25876} and following.

# record_cluster SETTINGS...: starts them; $NAMESRV_ADDR is theirs until the script ends
record_cluster() {
  HERE="$INTEROP_DIR/../benches"
  # servers.sh keeps their files there
  # shellcheck disable=SC2034
  WORK="$TMP"
  # shellcheck source=../benches/java-peer/servers.sh
  . "$HERE/java-peer/servers.sh"
  trap 'stop_java_servers; rm -rf "$TMP"' EXIT
  install_java_servers
  local port=${RECORD_PORT:-25876}
  export NAMESRV_ADDR="127.0.0.1:$port"
  java_namesrv namesrv "$port"
  for _ in $(seq 300); do ! port_open "$NAMESRV_ADDR" || break; sleep 0.2; done
  java_broker broker $((port + 35)) "$port" "$@"
  for _ in $(seq 300); do ! "$INTEROP_DIR/mqadmin" clusterList 2>/dev/null | grep -q broker-a || break; sleep 0.5; done
}
