#!/bin/sh
# Make ./secrets once: a master key, a password for PostgreSQL and one for Redis. Nothing is ever overwritten.
set -eu
cd "$(dirname "$0")"

[ ! -e secrets ] || { echo "./secrets is there already" >&2; exit 1; }
umask 077
mkdir secrets
password() { head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n'; }
postgres=$(password)
redis=$(password)
{
    echo vouchgate-master-key-v1
    head -c 32 /dev/urandom | base64
} > secrets/master.key
printf %s "$postgres" > secrets/postgres
cat > secrets/redis.conf <<END
requirepass $redis
maxmemory 256mb
maxmemory-policy noeviction
appendonly no
save ""
END
# The network between the containers is internal and PostgreSQL's image has no certificate: a database elsewhere wants TLS.
cat > secrets/environment <<END
DATABASE_URL=postgres://vouchgate:$postgres@postgres:5432/vouchgate?sslmode=disable
REDIS_URL=redis://:$redis@redis:6379
END
# The users of the images: 65532 runs the nodes, 999 PostgreSQL and Redis.
chown 65532:65532 secrets/master.key
chown 999:999 secrets/postgres secrets/redis.conf
echo "made ./secrets; keep a copy of secrets/master.key elsewhere: without it nothing sealed opens again"
