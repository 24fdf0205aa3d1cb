# shellcheck shell=bash
# A part of tests/boot/run: the machine's system, from the tree to its initramfs and the
# disk that is served, and what is on that disk in the end. It knows nothing of qemu.

# The tree, never written to, with this machine's own files over it: $work/root.
make_root() {
    local dir=$work/root
    mkdir -p "$work"/{root,upper,overlay}
    mount -t overlay overlay -o "lowerdir=$tree,upperdir=$work/upper,workdir=$work/overlay" "$dir"
    release=$(cd "$tree/usr/lib/modules" && printf '%s\n' * | sort -V |
        case $kernel in newest) tail -n 1 ;; *) grep "^${kernel//./\\.}\\." ;; esac)
    cp "$tree/boot/vmlinuz-$release" "$work/vmlinuz"

    if [ "$client" != stock ]; then
        # As if it had never been installed. What dracut has of it does nothing then.
        chroot "$dir" dpkg -L nbd-client | while read -r path; do
            [ -d "$dir/$path" ] || rm -f "$dir/$path"
        done
        rm -f "$dir"/etc/{nbdtab,nbd-client}
    fi
    if [ "$client" = nbdctl ]; then
        mkdir "$work/product"
        make --quiet -C "$here/../.." install-files PREFIX=/usr BINARY="$binary" \
            GENERATED="$work/generated" DESTDIR="$work/product" >&2
        lay "$work/product"
    fi
    [ "$layout" != luks ] || luks_files
    for dir in ${initramfs_files[@]+"${initramfs_files[@]}"}; do
        lay "$dir"
    done
}

# Lays what a folder holds over the root. No directories, or the root's own would become
# like them.
lay() {
    (cd "$1" && find . -mindepth 1 \( ! -type d -o -empty \) -print0) |
        tar -c -C "$1" --owner=0 --group=0 --mode=go-w --null -T - |
        tar -x -C "$work/root" --keep-directory-symlink
}

# Made once for all that goes in, but for the program: that is replaced in what was made, by
# another archive behind it, so that a new one costs no time. (The kernel unpacks both.)
# Sets $made, what was made, and $path, of the program in it.
make_initramfs() {
    local key
    key=$({
        cat "$here/system.sh"
        echo "$tree $release $initramfs $client $layout"
        for dir in "$work/product" "$work/luks" ${initramfs_files[@]+"${initramfs_files[@]}"}; do
            [ ! -e "$dir" ] || tar -c -C "$dir" --sort=name --mtime=@0 --owner=0 --group=0 \
                --exclude=./usr/sbin/nbdctl --exclude=./usr/share/man \
                --exclude=./usr/share/{bash-completion,zsh,fish} .
        done
        [ "$client" != nbdctl ] || ldd "$binary" | sed 's/ (.*//'
    } | sha256sum | cut -c 1-16)
    made=$cache/boot-initramfs-$key
    if [ ! -e "$made.path" ]; then
        (
            flock 8
            [ -e "$made.path" ] || new_initramfs "$made"
        ) 8>"$cache/.boot-initramfs.lock"
    fi
    cp "$made" "$work/initrd"
    path=$(<"$made.path")
    if [ -n "$path" ]; then
        mkdir -p "$work/again/${path%/*}"
        cp "$binary" "$work/again/$path"
        mount --bind "$work/again" "$work/root/mnt"
        truncate -s %512 "$work/initrd"
        # shellcheck disable=SC2016 # expanded by the inner shell
        chroot "$work/root" sh -c 'cd /mnt && echo "$1" | cpio -o -H newc -R 0:0 --quiet' sh "$path" \
            >>"$work/initrd"
        umount "$work/root/mnt"
    fi
}

# The initramfs as one compressed archive: whoever unpacks it to go back there reads no
# second one, and takes what is not compressed for a processor's microcode.
one_archive() {
    mkdir -p "$work/again/unpacked"
    mount --bind "$work/again" "$work/root/mnt"
    # shellcheck disable=SC2016 # expanded by the inner shell
    chroot "$work/root" sh -c 'cd /mnt/unpacked
        while cpio -idum --quiet 2>/dev/null; do :; done
        find . | cpio -o -H newc -R 0:0 --quiet | zstd -q -1' <"$work/initrd"
    umount "$work/root/mnt"
    rm -rf "$work/again"
}

# What it consists of, unpacked: the list of what was made, with the program of today.
initramfs_bytes() {
    local program=0
    [ -z "$path" ] || program=$(stat -c %s "$binary")
    awk -v path="$path" -v bytes="$program" '/^-/ && $NF != path { bytes += $5 } END { print bytes }' \
        "$made.list"
}

new_initramfs() {
    local made=$1 root=$work/root list
    mount -t proc proc "$root/proc"
    mount --rbind -o ro /sys "$root/sys"
    mount --rbind /dev "$root/dev"
    if [ "$initramfs" = dracut ]; then
        set -- dracut --no-hostonly --no-early-microcode --no-compress --quiet \
            --kver "$release" /boot/initrd
        # For the network the client is not to blame: only so can its bytes be told.
        [ "$client" != none ] || set -- "$@" --add network
        list=(cpio -tv --quiet -F /boot/initrd)
    else
        # zstd as quick as it can be; the lowest level.
        set -- mkinitramfs -c zstd -l 1 -o /boot/initrd "$release"
        list=(lsinitramfs -l /boot/initrd)
    fi
    PATH=/usr/sbin:/usr/bin chroot "$root" "$@" >"$work/initramfs.log" 2>&1 || {
        cat "$work/initramfs.log" >&2
        impossible "$initramfs cannot make an initramfs, and says above why"
    }
    [ ! -s "$work/initramfs.log" ] || cp "$work/initramfs.log" "$made.log"
    chroot "$root" "${list[@]}" >"$made.list"
    find "$cache" -maxdepth 1 -name 'boot-initramfs-*' -mtime +7 -delete
    mv "$root/boot/initrd" "$made"
    # Where the program is in there.
    awk '/^-/ && $NF ~ "^(usr/)?s?bin/nbdctl$" { print $NF }' "$made.list" >"$made.path"
    umount -R -l "$root"/{proc,sys,dev}
}

# The disk that is served, $work/disk.
make_disk() {
    local dir root=$work/root
    for dir in "$here/root" "$work/own" ${files[@]+"${files[@]}"}; do
        lay "$dir"
    done
    # What no machine needs: 200 MB.
    rm -rf "${root:?}"/boot/* "$root"/vmlinuz*
    [ -z "$exitrd" ] || one_archive >"$root/boot/initrd.img-$release"
    find "$root/usr/lib/modules" -mindepth 1 -maxdepth 1 ! -name "$release" -exec rm -rf {} +
    truncate -s 512M "$work/fs"
    mke2fs -q -F -t ext4 -L root -U "$FS_UUID" -m 0 -J size=16 -d "$root" "$work/fs"
    umount "$root"
    case $layout in
        plain) mv "$work/fs" "$work/disk" ;;
        partition)
            truncate -s 520M "$work/disk"
            sgdisk -n 1:1M:+1M -n 2:4M:+512M -c 2:root "$work/disk" >/dev/null
            dd if="$work/fs" of="$work/disk" bs=4M seek=1 conv=notrunc,sparse status=none
            rm "$work/fs"
            ;;
        luks)
            qemu-img convert --object "$LUKS_SECRET" -f raw -O luks \
                -o key-secret=s,iter-time=10 "$work/fs" "$work/disk"
            printf '%s' "$LUKS_UUID" | dd of="$work/disk" bs=1 seek=168 conv=notrunc status=none
            rm "$work/fs"
            ;;
        lvm) lvm_disk "$work/fs" "$work/disk" ;;
    esac
}

# Sets $journal and $fsck, and gets what is to be kept.
read_disk() {
    local path fs=$work/disk
    case $layout in
        partition)
            fs=$work/fs
            dd if="$work/disk" of="$fs" bs=4M skip=1 count=128 conv=sparse status=none
            ;;
        luks)
            fs=$work/fs
            qemu-img convert --object "$LUKS_SECRET" --image-opts \
                driver=luks,key-secret=s,file.filename="$work/disk" -O raw "$fs"
            ;;
        lvm)
            fs=$work/fs
            lvm_volume "$work/disk" "$fs"
            ;;
    esac
    journal=clean fsck=0
    if dumpe2fs -h "$fs" 2>/dev/null | grep -q 'needs_recovery'; then
        journal=dirty
        e2fsck -y -E journal_only "$fs" >/dev/null 2>&1 || true
    fi
    e2fsck -f -n "$fs" >"$out/fsck.log" 2>&1 || fsck=$?
    for path in ${keep[@]+"${keep[@]}"}; do
        debugfs -R "dump $path $out/${path##*/}" "$fs" 2>/dev/null || true
    done
}

FS_UUID=0d5aafcb-6fd3-4c1c-9f5e-6e626463746c
LUKS_UUID=5a1ff0f9-51ea-4a55-8d0c-6e626463746c
LUKS_SECRET=secret,id=s,data=secret

# Opened without anybody at a keyboard, by either maker's ways.
luks_files() {
    local dir=$work/luks
    mkdir -p "$dir/etc/cryptsetup-keys.d" "$dir/etc/dracut.conf.d"
    printf secret >"$dir/etc/cryptsetup-keys.d/cryptroot.key"
    echo "cryptroot UUID=$LUKS_UUID /etc/cryptsetup-keys.d/cryptroot.key luks,initramfs" >"$dir/etc/crypttab"
    mkdir -p "$dir/etc/cryptsetup-initramfs"
    echo 'KEYFILE_PATTERN="/etc/cryptsetup-keys.d/*.key"' >"$dir/etc/cryptsetup-initramfs/conf-hook"
    echo 'install_items+=" /etc/cryptsetup-keys.d/cryptroot.key "' >"$dir/etc/dracut.conf.d/luks.conf"
    lay "$dir"
}
