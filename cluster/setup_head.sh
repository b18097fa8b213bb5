#!/usr/bin/env bash
# The head's tracking service: MLflow over PostgreSQL, kept up by supervisord and probed every
# minute. Run it as often as you like: it makes what is missing and starts what does not run.
#
#   KDGAN_STORAGE=/mnt/kdgan bash cluster/setup_head.sh         (KDGAN_VENV: default ~/kdgan-venv)
#   KDGAN_MLFLOW_AUTH=1 ...   MLflow asks for a name and a password (first: see cluster/README.md)
#   KDGAN_STATE: where database and logs are. Default: ~/kdgan-head, for root /var/lib/kdgan
#   bash cluster/setup_head.sh stop
#
# Nothing listens but MLflow on 127.0.0.1:5000: PostgreSQL has a socket alone, and no password:
# it lets in the operating system's user that runs the service.

set -euo pipefail

storage=${KDGAN_STORAGE:-/mnt/kdgan}
venv=${KDGAN_VENV:-$HOME/kdgan-venv}
port=5000
if [ "$(id -u)" = 0 ]; then
    user=kdgan state=${KDGAN_STATE:-/var/lib/kdgan}
    as_user() { runuser -u "$user" -- "$@"; }
    sudo() { "$@"; }
else
    user=$(id -un) state=${KDGAN_STATE:-$HOME/kdgan-head}
    as_user() { "$@"; }
fi
socket=$state/run
control=("$venv/bin/supervisorctl" -c "$state/supervisord.conf")

# By its command, since after a crash the number may be some other process's.
runs() {
    [ -e "$state/supervisord.pid" ] &&
        grep -q supervisord "/proc/$(cat "$state/supervisord.pid")/cmdline" 2> /dev/null
}

fail() { echo "setup_head.sh: $*" >&2; exit 1; }

if [ "${1:-}" = stop ]; then
    ! runs || "${control[@]}" shutdown
    for _ in $(seq 100); do runs || exit 0; sleep 0.2; done
    fail "the services did not stop within 20 s"
fi

# What they run on.
[ -d "$storage" ] || fail "$storage is not there: mount the storage that all machines share"
[ -x "$venv/bin/mlflow" ] || fail "$venv/bin/mlflow is not there: cluster/setup_node.sh makes it"
postgres() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1; }
if [ -z "$(postgres)" ]; then
    # The package would make and start a cluster of its own, which listens on a port.
    sudo mkdir -p /etc/postgresql-common
    echo "create_main_cluster = false" | sudo tee /etc/postgresql-common/createcluster.conf > /dev/null
    sudo apt-get update -q
    sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q postgresql
fi
bin=$(postgres)
if [ "$user" = kdgan ] && ! id kdgan > /dev/null 2>&1; then
    useradd --system --home-dir "$state" --shell /usr/sbin/nologin kdgan
fi
mkdir -p "$state"
chmod 700 "$state"
mkdir -p "$socket" "$storage/artifacts"
if [ "$user" = kdgan ]; then
    chown kdgan: "$state" "$socket" "$storage/artifacts"
    as_user test -x "$venv/bin/mlflow" ||
        fail "the user kdgan cannot read $venv: make it elsewhere and set KDGAN_VENV"
fi

# The database, and one migration before anything writes.
if [ ! -e "$state/postgres/PG_VERSION" ]; then
    as_user "$bin/initdb" --pgdata="$state/postgres" --auth=peer --username="$user" \
        --encoding=UTF8 --locale=C.UTF-8 > /dev/null
    as_user tee -a "$state/postgres/postgresql.conf" > /dev/null <<END
listen_addresses = ''
unix_socket_directories = '$socket'
max_connections = 100
END
fi
store="postgresql+psycopg2:///mlflow?host=$socket"
auth=()
if [ "${KDGAN_MLFLOW_AUTH:-}" = 1 ]; then
    auth=(--app-name basic-auth)
fi

cat > "$state/supervisord.conf.new" <<END
[supervisord]
pidfile=$state/supervisord.pid
logfile=$state/supervisord.log
childlogdir=$state
[unix_http_server]
file=$state/supervisor.sock
chmod=0700
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://$state/supervisor.sock

[program:postgres]
command=$bin/postgres -D $state/postgres
user=$user
priority=1
stopsignal=INT
redirect_stderr=true
stdout_logfile=$state/postgres.log

[program:mlflow]
command=$venv/bin/mlflow server --backend-store-uri $store
    --artifacts-destination $storage/artifacts --host 127.0.0.1 --port $port --workers 2
    --allowed-hosts localhost:*,127.0.0.1:* ${auth[*]}
user=$user
directory=$state
environment=HOME="$state",MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
    MLFLOW_FLASK_SERVER_SECRET_KEY="%(ENV_KDGAN_SECRET)s"
autostart=false
priority=2
startretries=10
stopasgroup=true
killasgroup=true
redirect_stderr=true
stdout_logfile=$state/mlflow.log

[eventlistener:health]
command=$venv/bin/httpok -p mlflow -t 20 http://127.0.0.1:$port/health
events=TICK_60
stderr_logfile=$state/health.log
END

# Restarted where its configuration has changed, started where it does not run.
export KDGAN_SECRET
KDGAN_SECRET=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')
if runs; then
    if ! cmp -s "$state/supervisord.conf" "$state/supervisord.conf.new"; then
        "${control[@]}" shutdown
        for _ in $(seq 100); do runs || break; sleep 0.2; done
    fi
fi
mv "$state/supervisord.conf.new" "$state/supervisord.conf"
chmod 600 "$state/supervisord.conf"
if ! runs; then
    rm -f "$state/supervisord.pid"
    (cd "$state" && "$venv/bin/supervisord" -c "$state/supervisord.conf")
fi
for _ in $(seq 100); do
    as_user "$bin/pg_isready" -q -h "$socket" && break
    sleep 0.2
done
as_user "$bin/pg_isready" -q -h "$socket" || fail "PostgreSQL does not start: $state/postgres.log"
if [ "$(as_user "$bin/psql" -h "$socket" -d postgres -Atc \
        "select 1 from pg_database where datname = 'mlflow'")" != 1 ]; then
    as_user "$bin/createdb" -h "$socket" mlflow
fi
if ! "${control[@]}" status mlflow | grep -q RUNNING; then
    (cd "$state" && as_user env HOME="$state" "$venv/bin/mlflow" db upgrade "$store") \
        > "$state/migration.log" 2>&1 || fail "the migration failed: $state/migration.log"
    "${control[@]}" start mlflow > /dev/null
fi
for _ in $(seq 300); do
    "$venv/bin/python" - "$port" <<'END' && break
import sys, urllib.request
try:
    urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/health", timeout=2)
except OSError:
    sys.exit(1)
END
    sleep 0.5
done
"${control[@]}" status mlflow | grep -q RUNNING || fail "MLflow does not start: $state/mlflow.log"

# What a sweep on this machine needs to know.
cat > "$HOME/.kdgan" <<END
export KDGAN_STORAGE=$storage
export KDGAN_DATA=\${KDGAN_DATA:-$storage/data}
export KDGAN_VENV=$venv
export MLFLOW_TRACKING_URI=http://127.0.0.1:$port
export RAY_AUTH_MODE=token
export PATH=$venv/bin:\$PATH
END
echo "MLflow: http://127.0.0.1:$port, artifacts in $storage/artifacts, state in $state"
