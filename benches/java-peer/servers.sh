# shellcheck shell=bash
# Sourced by compare: the Java name server and broker of RocketMQ 5.3.3 on loopback, a process each. Needs interop/lib.sh
# (JAVA, JAVA_OPENS, INTEROP_HOME, die) and $WORK, a folder that is removed at the end.

JAVA_SERVER_LIB="$INTEROP_HOME/server5/lib"
# The heap of a broker on a small machine; direct memory is what it reads and replicates through.
read -r -a JAVA_SERVER_HEAP <<<"${COMPARE_JAVA_OPTS:--Xms512m -Xmx1g -XX:MaxDirectMemorySize=1g}"
JAVA_PIDS=()

install_java_servers() {
  local pom="$HERE/java-peer/pom.xml" mark="$INTEROP_HOME/server5.built" want
  want="$(sha256sum <"$pom")"
  [ "$(cat "$mark" 2>/dev/null || true)" != "$want" ] || return 0
  echo "compare: fetching the Java broker" >&2
  rm -rf "$INTEROP_HOME/server5"
  mkdir -p "$INTEROP_HOME"
  mvn -B -q -Dstyle.color=never -f "$pom" dependency:copy-dependencies -DoutputDirectory="$JAVA_SERVER_LIB" >&2
  echo "$want" >"$mark"
}

# java_server NAME CLASS SETTINGS...: starts one; its pid goes to $LAST_PID and to JAVA_PIDS
java_server() {
  local name=$1 class=$2 dir="$WORK/$1"; shift 2
  mkdir -p "$dir/conf"
  printf '%s\n' "$@" >"$dir/server.properties"
  ROCKETMQ_HOME="$dir" setsid "$JAVA" "${JAVA_OPENS[@]}" "${JAVA_SERVER_HEAP[@]}" -XX:+UseG1GC -XX:-UsePerfData -Duser.home="$dir" \
    -cp "$JAVA_SERVER_LIB/*" "$class" -c "$dir/server.properties" >"$dir/out" 2>&1 </dev/null &
  LAST_PID=$!
  JAVA_PIDS+=("$LAST_PID")
}

java_namesrv() { # NAME PORT
  local JAVA_SERVER_HEAP=(-Xms128m -Xmx256m)
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
