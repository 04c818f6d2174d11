# Sourced by bench.sh: how each server is started, at its low-latency setting, pinned to the server's core. Each start_… sets server_pid
# and the options that tell the load generator where the server is (where).

server_pid=
where=()

stop_server() {
    if [ -n "$server_pid" ]; then
        kill "$server_pid" 2>/dev/null || true
        wait "$server_pid" 2>/dev/null || true
        server_pid=
    fi
}

# pinned CORES COMMAND…: with what START_WITH says, on those cores, in the place of this shell: $! is the command.
pinned() { exec ${start_with[@]+"${start_with[@]}"} taskset -c "$@"; }

# wait_port PORT: until somebody listens there, at most ten seconds.
wait_port() {
    for _ in $(seq 100); do
        if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then return 0; fi
        sleep 0.1
    done
    echo "nobody listens on port $1" >&2
    return 1
}

# start_shardcast CORES RUNTIME SHARDS [KEY=VALUE…]
start_shardcast() {
    local log="$out/shardcast.log" cores=$1 runtime=$2 shards=$3 options=() setting
    for setting in "${@:4}"; do options+=(--set "$setting"); done
    rm -rf "$out/data"
    pinned "$cores" "$programs/shardcast" --set "server.runtime=$runtime" --set "server.shards=$shards" \
        --set 'rtmp.listen=[127.0.0.1:0]' --set 'http.listen=[127.0.0.1:0]' --set 'rtsp.listen=[127.0.0.1:0]' \
        --set 'control.listen=[127.0.0.1:0]' --set "server.data=$out/data" ${options[@]+"${options[@]}"} 2>"$log" &
    server_pid=$!
    wait_ready "$log" || return 1
    where=(--url "rtmp://$(address_of rtmp "$log")/live/load" --http "http://$(address_of http "$log")"
        --rtsp "rtsp://$(address_of rtsp "$log")" --control "$(address_of control "$log")")
    local sip
    sip=$(address_of 'gb28181 udp' "$log")
    if [ -n "$sip" ]; then where+=(--sip "$sip" --sip-password secret); fi
}

# nginx with the RTMP module, as a process of its own. Installing it must not start the system's nginx, which policy-rc.d prevents.
need_nginx() {
    local policy=/usr/sbin/policy-rc.d own=
    if [ ! -e /usr/lib/nginx/modules/ngx_rtmp_module.so ]; then
        if [ ! -e "$policy" ]; then
            own=yes
            as_root sh -c "printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy"
        fi
        apt_need nginx-light libnginx-mod-rtmp || true
        if [ -n "$own" ]; then as_root rm -f "$policy"; fi
    fi
    [ -e /usr/lib/nginx/modules/ngx_rtmp_module.so ]
}

# Every message goes out at once (nginx-rtmp's default: no buffer, no cork), in large chunks, beginning at a keyframe.
start_nginx() {
    local folder="$PWD/$out/nginx" port=${NGINX_PORT:-21935}
    mkdir -p "$folder/logs"
    cat >"$folder/nginx.conf" <<CONF
load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
daemon off;
master_process off;
pid $folder/nginx.pid;
error_log $folder/error.log error;
events { worker_connections 16384; }
rtmp {
    access_log off;
    server {
        listen 127.0.0.1:$port so_keepalive=off;
        chunk_size 4096;
        application live {
            live on;
            wait_key on;
            interleave off;
            sync 10ms;
        }
    }
}
CONF
    PATH=$PATH:/usr/sbin pinned "$1" nginx -p "$folder" -c "$folder/nginx.conf" 2>"$folder/start.log" &
    server_pid=$!
    wait_port "$port" || return 1
    where=(--url "rtmp://127.0.0.1:$port/live/load")
}

need_nms() {
    command -v node >/dev/null && command -v npm >/dev/null || apt_need nodejs npm || return 1
    [ -e "$out/nms/node_modules/node-media-server" ] ||
        npm install --silent --no-audit --no-fund --prefix "$out/nms" node-media-server@4.4.3 >/dev/null 2>&1
}

start_nms() {
    local rtmp=${NMS_RTMP_PORT:-21936} http=${NMS_HTTP_PORT:-28000}
    pinned "$1" node "$out/nms/node_modules/node-media-server/bin/app.js" --bind 127.0.0.1 --rtmp-port "$rtmp" \
        --http-port "$http" --no-admin --data-path "$out/nms/data" >"$out/nms/log" 2>&1 &
    server_pid=$!
    wait_port "$http" || return 1
    where=(--url "rtmp://127.0.0.1:$rtmp/live/load" --http "http://127.0.0.1:$http")
}

need_gst() {
    [ -x "$out/gst_rtsp" ] && return 0
    apt_need gcc pkg-config libgstrtspserver-1.0-dev gstreamer1.0-plugins-base gstreamer1.0-plugins-good || return 1
    local flags
    flags=$(pkg-config --cflags --libs gstreamer-rtsp-server-1.0)
    # The flags are words.
    # shellcheck disable=SC2086
    gcc -O2 -o "$out/gst_rtsp" scripts/bench/gst_rtsp.c $flags
}

start_gst() {
    local publish=${GST_PUBLISH_PORT:-28554} play=${GST_PLAY_PORT:-28555}
    pinned "$1" "$out/gst_rtsp" "$publish" "$play" 2>"$out/gst.log" &
    server_pid=$!
    wait_port "$play" || return 1
    where=(--publish rtsp-tcp --rtsp "rtsp://127.0.0.1:$publish" --play-at "127.0.0.1:$play")
}
