# shellcheck shell=bash
# Sourced by quickstart and test: where builds go, what they need, how they are made. Prints to stderr only.

RAFTMQ_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

# In CI the build goes to a folder that outlives the checkout, so that RocksDB is compiled once.
if [ -z "${CARGO_TARGET_DIR:-}" ]; then
  if [ "${CI:-}" = true ]; then
    CARGO_TARGET_DIR="${XDG_CACHE_HOME:-$HOME/.cache}/raftmq/target"
  else
    CARGO_TARGET_DIR="$RAFTMQ_ROOT/target"
  fi
fi
[[ $CARGO_TARGET_DIR = /* ]] || CARGO_TARGET_DIR="$PWD/$CARGO_TARGET_DIR"
export CARGO_TARGET_DIR

# rustup's folder is not on the PATH of a shell that was open when it was installed.
if ! command -v cargo >/dev/null && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
  export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
fi

fail() { echo "${0##*/}: $*" >&2; exit 1; }

# libclang.so.1 or libclang-14.so.1, but not libclang-cpp.so.14
has_libclang() {
  local dir
  [ -z "${LIBCLANG_PATH:-}" ] || return 0
  for dir in /usr/lib/llvm-*/lib /usr/lib/*-linux-gnu /usr/lib64 /usr/lib /usr/local/lib; do
    if compgen -G "$dir/libclang.so*" >/dev/null || compgen -G "$dir/libclang-[0-9]*.so*" >/dev/null; then return 0; fi
  done
  return 1
}

# ensure_build_tools: Rust, and what RocksDB and jemalloc are compiled with; installs the latter where it can
ensure_build_tools() {
  command -v cargo >/dev/null || fail "Rust is missing; see https://rustup.rs"
  local missing=()
  { command -v c++ && command -v make; } >/dev/null || missing+=(build-essential)
  has_libclang || missing+=(libclang-dev)
  [ ${#missing[@]} -gt 0 ] || return 0
  local root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fail "please install as root: ${missing[*]}"
    root=(sudo)
  fi
  command -v apt-get >/dev/null || fail "please install the equivalents of Debian's ${missing[*]}"
  echo "Installing ${missing[*]} with apt-get." >&2
  "${root[@]}" apt-get update -qq >&2 || fail "apt-get update failed; please install ${missing[*]}"
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 ||
    fail "apt-get could not install ${missing[*]}"
}

# build_workspace: always the whole of it, so that every dependency is built once with one set of features
build_workspace() { cargo build --release --workspace; }
