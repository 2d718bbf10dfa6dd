#!/bin/sh
# The Debian packages that the tests start as real servers and tools. As root: installs the missing ones, without
# starting any system service. Otherwise: prints the one command that does, and fails. Stops nothing.
set -eu

# program:package
NEEDED='mosquitto:mosquitto influxd:influxdb victoria-metrics:victoria-metrics nginx:nginx-light
chromium:chromium faketime:faketime ip:iproute2 openssl:openssl strace:strace'

# path:package, of what has no program
FILES='usr/lib/python3/dist-packages/gi/__init__.py:python3-gi
usr/lib/*/girepository-1.0/GstRtspServer-1.0.typelib:gir1.2-gst-rtsp-server-1.0
usr/lib/*/gstreamer-1.0/libgstapp.so:gstreamer1.0-plugins-base
usr/lib/*/gstreamer-1.0/libgstrtp.so:gstreamer1.0-plugins-good
usr/lib/*/gstreamer-1.0/libgstvideoparsersbad.so:gstreamer1.0-plugins-bad
usr/lib/*/gstreamer-1.0/libgstx264.so:gstreamer1.0-plugins-ugly
usr/lib/postgresql/*/bin/postgres:postgresql'

PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
missing=
for pair in $FILES; do
    # shellcheck disable=SC2086  # the path is a pattern
    ls /${pair%%:*} >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
for pair in $NEEDED; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
[ -n "$missing" ] || exit 0

install="apt-get install -y --no-install-recommends$missing"
if ! command -v apt-get >/dev/null 2>&1; then
    echo "the tests need these programs, by their Debian names:$missing" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "the tests need Debian packages; run: sudo sh -c 'apt-get update && $install'" >&2
    exit 1
fi

echo "installing:$missing"
# policy-rc.d with 101 is Debian's own way to say: start no service. Somebody else's policy is left alone.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
log=$(mktemp)
# shellcheck disable=SC2086  # the list is meant to be split
if ! { apt-get update && DEBIAN_FRONTEND=noninteractive $install; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    echo "could not install:$missing" >&2
    exit 1
fi
rm -f "$log"
