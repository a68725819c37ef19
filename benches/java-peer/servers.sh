# shellcheck shell=bash
# Sourced by compare and failover: the Java name server and broker of RocketMQ 5.3.3 on loopback, a process each. Needs
# interop/lib.sh (INTEROP_HOME, die) and, to start some, $WORK, a folder that is removed at the end.

JAVA_SERVER_LIB="$INTEROP_HOME/server5/lib"
JAVA_PIDS=()

install_java_servers() {
  local pom="$HERE/java-peer/pom.xml" mark="$INTEROP_HOME/server5.built" want
  want="$(sha256sum <"$pom")"
  [ "$(cat "$mark" 2>/dev/null || true)" != "$want" ] || return 0
  echo "${0##*/}: fetching the Java broker" >&2
  rm -rf "$INTEROP_HOME/server5"
  mkdir -p "$INTEROP_HOME"
  mvn -B -q -Dstyle.color=never -f "$pom" dependency:copy-dependencies -DoutputDirectory="$JAVA_SERVER_LIB" >&2
  echo "$want" >"$mark"
}

# java_server NAME CLASS SETTINGS...: starts one; its pid goes to $LAST_PID and to JAVA_PIDS
java_server() {
  local name=$1 class=$2 dir="$WORK/$1"; shift 2
  mkdir -p "$dir"
  printf '%s\n' "$@" >"$dir/server.properties"
  setsid "$HERE/java-peer/run" "$dir" "$class" -c "$dir/server.properties" >"$dir/out" 2>&1 </dev/null &
  LAST_PID=$!
  JAVA_PIDS+=("$LAST_PID")
}

java_namesrv() { # NAME PORT
  java_server "$1" org.apache.rocketmq.namesrv.NamesrvStartup "listenPort=$2" bindAddress=127.0.0.1
}

java_broker() { # NAME PORT NAMESRV_PORT SETTINGS...
  local name=$1 port=$2 namesrv=$3; shift 3
  java_server "$name" org.apache.rocketmq.broker.BrokerStartup brokerClusterName=JavaCluster brokerName=broker-a \
    brokerIP1=127.0.0.1 brokerIP2=127.0.0.1 bindAddress=127.0.0.1 "listenPort=$port" "namesrvAddr=127.0.0.1:$namesrv" \
    autoCreateTopicEnable=true flushDiskType=ASYNC_FLUSH mappedFileSizeCommitLog=268435456 diskMaxUsedSpaceRatio=95 \
    "storePathRootDir=$WORK/$name/store" "storePathCommitLog=$WORK/$name/store/commitlog" "$@"
}

stop_java_servers() {
  local pid
  [ ${#JAVA_PIDS[@]} -gt 0 ] || return 0
  # The stores are thrown away: nothing has to be written for a clean end.
  for pid in "${JAVA_PIDS[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
  wait "${JAVA_PIDS[@]}" 2>/dev/null || true
  JAVA_PIDS=()
}
