# shellcheck shell=bash
# A part of tests/boot/run: what is done to a machine from outside, while it runs, and what
# it says. These are the words of --when's CODE.

# server kill|start|stop|cont
server() {
    local pid ready
    pid=$(cat "$work/server.pid" 2>/dev/null) || pid=
    case $1 in
        start)
            case $server in
                nbdkit)
                    set -- nbdkit -f -p "$port" ${read_only:+-r} file "$work/disk"
                    ;;
                qemu-nbd)
                    set -- qemu-nbd -t -e 8 -f raw -p "$port" ${read_only:+-r} "$work/disk"
                    ;;
            esac
            # Whoever says so may end before it does, and nbdkit ends with its parent.
            (
                "$@" </dev/null >>"$out/server.log" 2>&1 &
                echo $! >"$work/server.pid"
                wait
            ) 2>/dev/null 5>&- 6>&- 7>&- 8>&- 9>&- &
            for ready in {1..200}; do
                # shellcheck disable=SC2188 # opened, and closed
                ! (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || return 0
                sleep 0.05
            done
            return 1
            ;;
        kill)
            rm -f "$work/server.pid"
            [ -z "$pid" ] || kill -KILL "$pid" || true
            ;;
        stop) kill -STOP "$pid" ;;
        cont) kill -CONT "$pid" ;;
    esac
}

# To qemu's monitor.
monitor() { echo "$*" >"$work/monitor.in"; }
network() {
    case $1 in
        cut) monitor set_link outside off ;;
        heal) monitor set_link outside on ;;
    esac
}
cable() {
    case $1 in
        out) monitor set_link nic off ;;
        in) monitor set_link nic on ;;
    esac
}
enough() {
    : >"$work/enough"
    monitor quit
}
button() { monitor system_powerdown; }
say() { echo "$*" >"$work/rig.in"; }

# What the machine's network is to qemu; one with a DHCP server where that is asked for.
network_backend() {
    if [ -z "$root_path" ]; then
        echo user,id=net
        return
    fi
    ip tuntap add tap0 mode tap
    ip address add 10.0.2.2/24 dev tap0
    ip link set tap0 up
    : >"$work/leases"
    dnsmasq --conf-file=/dev/null --port=0 --interface=tap0 --bind-dynamic --user=root --pid-file= \
        --dhcp-leasefile="$work/leases" --dhcp-range=10.0.2.15,10.0.2.99,1h \
        --dhcp-option="option:root-path,$root_path" --log-dhcp --log-facility="$out/dhcp.log" >&2
    echo tap,id=net,ifname=tap0,script=no,downscript=no
}

# Notes what the machine says, with the time, and does what is to be done then.
listen() {
    local line word rest
    while read -r line; do
        line=${line%$'\r'}
        if [ "${line#@@ }" = "$line" ]; then
            printf '%s\n' "$line" | tee -a "$out/output"
            continue
        fi
        read -r _ word rest <<<"$line"
        note "$word${rest:+ $rest}"
        [ -n "$word" ] || continue
        if [ -n "${when[$word]+1}" ]; then
            (
                eval "${when[$word]}"
                note "did $word"
                [ "$word" != powerdown ] || say down
            ) </dev/null >>"$out/server.log" 2>&1 &
        fi
        [ "$word $end" != 'status button' ] || button
        [ "$word" != status ] || { sleep "$patience" && enough; } </dev/null >&2 &
    done
}
note() { echo "$EPOCHREALTIME $1" >>"$out/events"; }
