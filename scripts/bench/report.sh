#!/usr/bin/env bash
# report.sh FOLDER FORM SECONDS RUN_SECONDS: the tables of a bench run, into docs/PERFORMANCE.md between its markers. Called by bench.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$1 form=$2 took=$3 run_seconds=$4
base=nginx-merge0-rtmp

version() { "$@" 2>&1 | head -n 1; }

rows=()
row() { rows+=(--row "$1"); }
table() {
    target/release/shardcast-loadtest ratios "$out" "${rows[@]}"
    rows=()
}

# bar NAME RUN BOUND: both runtimes' CPU per Gbit against nginx-rtmp's.
bar() {
    for runtime in uring epoll; do
        row "$1, $runtime|server_cpu_per_gbit|$runtime-$2|$base|$3"
    done
}

report() {
    echo "Machine: $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores, Linux $(uname -r)," \
        "$(. /etc/os-release && echo "$PRETTY_NAME"), $(version rustc --version). Peers: $(PATH=$PATH:/usr/sbin version nginx -v)" \
        "with libnginx-mod-rtmp $(dpkg-query -W -f='${Version}' libnginx-mod-rtmp 2>/dev/null || echo '(not installed)')," \
        "node-media-server 4.4.3, gst-rtsp-server $(pkg-config --modversion gstreamer-rtsp-server-1.0 2>/dev/null || echo '(not installed)')."
    echo "Measured on $(date -u +%F) in $((took / 60)) minutes by \`${START_WITH:+START_WITH=\"$START_WITH\" }scripts/bench.sh${form#default}\`," \
        "runs of $run_seconds s, server on one core, generator on the other. Ratios are to nginx-rtmp's RTMP in the same round."
    echo
    echo "CPU seconds per delivered Gbit, one stream of 2 Mb/s to 300 viewers:"
    echo
    bar "RTMP" merge0-rtmp '<=0.95'
    bar "HTTP-FLV" merge0-http_flv '<=0.95'
    bar "RTSP, TCP" merge0-rtsp_tcp '<=1.0'
    bar "RTSP, UDP" merge0-rtsp_udp '<=1.1'
    bar "RTSP, UDP, to viewers with UDP_GRO" joined-rtsp_udp '<=1.1'
    for merge in 10:0.70 40:0.45; do
        for play in rtmp http_flv rtsp_tcp; do
            row "$play, merge_ms ${merge%:*}|server_cpu_per_gbit|uring-merge${merge%:*}-$play|$base|<=${merge#*:}"
        done
    done
    table
    echo
    echo "Viewers of 600 kb/s within the objective (more than 99.99 % within 100 ms, nothing lost):"
    echo
    row "RTMP, uring|density|uring-density-rtmp|nginx-density-rtmp|>=3"
    row "HTTP-FLV, uring|density|uring-density-http_flv|nginx-density-rtmp|>=3"
    row "RTSP, UDP, uring|density|uring-density-rtsp_udp|nginx-density-rtmp|>=2"
    table
    echo
    echo "200 publishers of 2 Mb/s without viewers, CPU milliseconds per stream and second:"
    echo
    for runtime in uring epoll; do
        row "RTMP, $runtime|server_cpu_per_publisher|$runtime-publish-rtmp|nginx-publish-rtmp|<=1.0"
        row "RTSP, TCP, $runtime|server_cpu_per_publisher|$runtime-publish-rtsp_tcp|nginx-publish-rtmp|<=1.2"
        row "GB28181, UDP, $runtime|server_cpu_per_publisher|$runtime-publish-gb28181|nginx-publish-rtmp|<=1.5"
    done
    table
    echo
    echo "Latency at 300 viewers of 2 Mb/s, and what a viewer costs:"
    echo
    for run in nginx-merge0-rtmp uring-merge0-rtmp epoll-merge0-rtmp; do
        row "$run: p50, ms|last_byte_p50|$run||$([ "$run" = nginx-merge0-rtmp ] || echo '<=3')"
        row "$run: p99.99, ms|last_byte_p99_99|$run||$([ "$run" = nginx-merge0-rtmp ] || echo '<=15')"
        row "$run: join p50, ms|join_p50|$run||$([ "$run" = nginx-merge0-rtmp ] || echo '<=3')"
        row "$run: memory per viewer, bytes|server_rss_per_viewer|$run||$([ "$run" = nginx-merge0-rtmp ] || echo '<=4096')"
    done
    table
    echo
    echo "When some do not read, and over a link of 100 Mbit/s with 10 ms ping that 10 viewers share:"
    echo
    row "p99 with 30 of 330 stalled against without, ms|last_byte_p99|uring-stalled-rtmp|uring-merge0-rtmp|<=1.2"
    row "RTMP over the link: in time, %|within_100_ms|uring-link-rtmp||>=100"
    row "RTSP, UDP over the link: in time, %|within_100_ms|uring-link-rtsp_udp||>=100"
    table
    echo
    echo "Other servers, and shards on all cores (CPU per Gbit):"
    echo
    row "node-media-server against HTTP-FLV, uring|server_cpu_per_gbit|nms-merge0-http_flv|uring-merge0-http_flv|"
    row "gst-rtsp-server against RTSP, TCP, uring|server_cpu_per_gbit|gst-merge0-rtsp_tcp|uring-merge0-rtsp_tcp|"
    row "gst-rtsp-server against RTSP, UDP, uring|server_cpu_per_gbit|gst-merge0-rtsp_udp|uring-merge0-rtsp_udp|"
    row "io_uring against epoll, RTMP|server_cpu_per_gbit|uring-merge0-rtmp|epoll-merge0-rtmp|<=1.15"
    row "2 shards against 1|server_cpu_per_gbit|shards2-merge0-rtmp|shards1-merge0-rtmp|"
    row "4 shards against 1|server_cpu_per_gbit|shards4-merge0-rtmp|shards1-merge0-rtmp|<=1.15"
    row "8 shards against 1|server_cpu_per_gbit|shards8-merge0-rtmp|shards1-merge0-rtmp|"
    table
}

report >"$out/report.md"
cat "$out/report.md"
document=docs/PERFORMANCE.md
awk -v file="$out/report.md" '
    /<!-- bench: end -->/ { inside = 0 }
    !inside { print }
    /<!-- bench: begin -->/ { inside = 1; print ""; while ((getline line < file) > 0) print line; print "" }
' "$document" >"$out/PERFORMANCE.md"
cp "$out/PERFORMANCE.md" "$document"
