# shellcheck shell=bash
# Sourced by every script here. Everything installed or written lies under $RAFTMQ_INTEROP_HOME.
set -euo pipefail
INTEROP_DIR="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
INTEROP_HOME="${RAFTMQ_INTEROP_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/raftmq/interop}"
export NAMESRV_ADDR="${NAMESRV_ADDR:-127.0.0.1:9876}"

# LINE chooses the Java client: 5 (5.3.3, the default) or 4 (4.9.8).
LINE="${LINE:-5}"
JAVA="${JAVA_HOME:+$JAVA_HOME/bin/}java"
# RocketMQ reaches into JDK internals that JDK 17 keeps closed.
JAVA_OPENS=(--add-opens=java.base/java.lang=ALL-UNNAMED --add-opens=java.base/java.nio=ALL-UNNAMED
  --add-opens=java.base/sun.nio.ch=ALL-UNNAMED --add-opens=java.base/java.util=ALL-UNNAMED
  --add-opens=java.base/jdk.internal.misc=ALL-UNNAMED --add-opens=java.base/jdk.internal.ref=ALL-UNNAMED
  --add-exports=java.base/jdk.internal.ref=ALL-UNNAMED)
read -r -a JAVA_HEAP <<<"${INTEROP_JAVA_OPTS:--Xms128m -Xmx512m -XX:MaxDirectMemorySize=256m}"

die() { echo "interop: $*" >&2; exit 1; }

# Logs, local offsets and other leavings of the clients go to a folder that is removed at exit.
temp_dir() {
  TMP="$(mktemp -d "${TMPDIR:-/tmp}/raftmq-interop.XXXXXX")"
  mkdir -p "$TMP/home/conf"
  # the 4.9 mqadmin does not start without this file
  echo '<configuration><root level="OFF"/></configuration>' >"$TMP/home/conf/logback_tools.xml"
  trap 'rm -rf "$TMP"' EXIT
}

# A command that every java_client runs under, e.g. (timeout 15).
UNDER=()

# java_client CLASS ARGS...: a program on the jars of $LINE
java_client() {
  local lib="$INTEROP_HOME/java$LINE"
  [ -d "$lib/classes" ] || die "no $lib/classes; run $INTEROP_DIR/install first"
  ROCKETMQ_HOME="$TMP/home" "${UNDER[@]}" "$JAVA" "${JAVA_OPENS[@]}" "${JAVA_HEAP[@]}" -XX:-UsePerfData -Duser.home="$TMP" \
    -Drocketmq.client.logRoot="$TMP/log" -Drocketmq.log.root="$TMP/log" -cp "$lib/classes:$lib/lib/*" "$@"
}

go_client() {
  [ -x "$INTEROP_HOME/interop-go" ] || die "no $INTEROP_HOME/interop-go; run $INTEROP_DIR/install first"
  "$INTEROP_HOME/interop-go" "$@"
}

python_client() {
  [ -d "$INTEROP_HOME/python" ] || die "no $INTEROP_HOME/python; run $INTEROP_DIR/install first (Linux on x86-64 only)"
  HOME="$TMP/home" PYTHONPATH="$INTEROP_HOME/python" PYTHONDONTWRITEBYTECODE=1 python3 "$INTEROP_DIR/python/interop.py" "$@"
}

# cluster_name: $CLUSTER, or the first one that the name server knows
cluster_name() {
  if [ -z "${CLUSTER:-}" ]; then
    CLUSTER="$(LINE=5 "$INTEROP_DIR/mqadmin" clusterList 2>/dev/null | awk '!/^#/ && NF > 4 {print $1; exit}')"
    [ -n "$CLUSTER" ] || die "the name server $NAMESRV_ADDR knows no cluster"
    export CLUSTER
  fi
  echo "$CLUSTER"
}

# port_open ADDRESS: something listens there
port_open() { (exec 3<>"/dev/tcp/${1%:*}/${1##*:}") 2>/dev/null; }
