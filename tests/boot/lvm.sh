# shellcheck shell=bash
# A part of tests/boot/run: a disk with a volume group on it, rig, whose one volume, root,
# is a file system in a file. Written by hand: LVM itself works on block devices alone,
# which nobody has in a user namespace, and here would be the host's own. What it is worth
# LVM says in the machine.

# Bytes from the disk's beginning to the volume's; the volume's, in 4 MiB extents.
LVM_START=$((1 << 20))
LVM_EXTENTS=128

# The checksum of what is read, as LVM has it: CRC-32's polynomial with a start of its own,
# and without the inversion at the end.
lvm_crc() {
    local crc=$((0xf597a6cf)) byte bit
    local table=()
    for ((byte = 0; byte < 16; byte++)); do
        table[byte]=$byte
        for bit in 1 2 3 4; do
            table[byte]=$(((table[byte] >> 1) ^ (table[byte] & 1 ? 0xedb88320 : 0)))
        done
    done
    for byte in $(od -An -v -tu1); do
        crc=$((crc ^ byte))
        crc=$(((crc >> 4) ^ table[crc & 15]))
        crc=$(((crc >> 4) ^ table[crc & 15]))
    done
    echo $crc
}

# Numbers as they are on disks: little-endian, of 32 and of 64 bits.
lvm_le32() {
    local number
    for number in "$@"; do
        # shellcheck disable=SC2059 # the bytes are the format
        printf "$(printf '\\x%02x' $((number & 255)) $((number >> 8 & 255)) \
            $((number >> 16 & 255)) $((number >> 24 & 255)))"
    done
}
lvm_le64() {
    local number
    for number in "$@"; do
        lvm_le32 $((number & 0xffffffff)) $((number >> 32))
    done
}

# All about the group. Identifiers are of 6-4-4-4-4-4-6 letters.
lvm_text() {
    cat <<END
rig {
id = "rigrig-vgvg-vgvg-vgvg-vgvg-vgvg-vgrigv"
seqno = 1
format = "lvm2"
status = ["RESIZEABLE", "READ", "WRITE"]
flags = []
extent_size = 8192
max_lv = 0
max_pv = 0
metadata_copies = 0
physical_volumes {
pv0 {
id = "rigrig-pvpv-pvpv-pvpv-pvpv-pvpv-pvrigp"
device = "/dev/nbd0"
status = ["ALLOCATABLE"]
flags = []
dev_size = $(($1 / 512))
pe_start = $((LVM_START / 512))
pe_count = $(((($1 - LVM_START) >> 22)))
}
}
logical_volumes {
root {
id = "rigrig-lvlv-lvlv-lvlv-lvlv-lvlv-lvrigl"
status = ["READ", "WRITE", "VISIBLE"]
flags = []
segment_count = 1
segment1 {
start_extent = 0
extent_count = $LVM_EXTENTS
type = "striped"
stripe_count = 1
stripes = ["pv0", 0]
}
}
}
}
contents = "Text Format Volume Group"
version = 1
END
}

# Moves a file system to a disk: lvm_disk FILE DISK
lvm_disk() {
    local size=$((LVM_START + (LVM_EXTENTS + 2 << 22))) part=$work/lvm sum
    truncate -s $size "$2"
    dd if="$1" of="$2" bs=1M seek=$((LVM_START >> 20)) conv=notrunc,sparse status=none
    rm "$1"

    # Where the data is (to its end), where the metadata, and that a group uses it.
    {
        lvm_le32 32
        printf 'LVM2 001'
        printf 'rigrigpvpvpvpvpvpvpvpvpvpvpvrigp'
        lvm_le64 $size $LVM_START 0 0 0 4096 $((LVM_START - 4096)) 0 0
        lvm_le32 2 1
        lvm_le64 0 0
    } >"$part"
    truncate -s $((512 - 20)) "$part"
    sum=$(lvm_crc <"$part")
    {
        printf LABELONE
        lvm_le64 1
        lvm_le32 "$sum"
        cat "$part"
    } | dd of="$2" bs=512 seek=1 conv=notrunc status=none

    # The metadata's own beginning, and behind it the text, which ends with a zero.
    { lvm_text $size && printf '\0'; } >"$part.text"
    {
        printf ' LVM2 x[5A%%r0N*>'
        lvm_le32 1
        lvm_le64 4096 $((LVM_START - 4096)) 512 "$(stat -c %s "$part.text")"
        lvm_le32 "$(lvm_crc <"$part.text")" 0
    } >"$part"
    truncate -s $((512 - 4)) "$part"
    sum=$(lvm_crc <"$part")
    {
        lvm_le32 "$sum"
        cat "$part" "$part.text"
    } | dd of="$2" bs=4096 seek=1 conv=notrunc status=none
}

# The file system on a disk, for a look at it: lvm_volume DISK FILE
lvm_volume() {
    dd if="$1" of="$2" bs=1M skip=$((LVM_START >> 20)) count=$((LVM_EXTENTS << 2)) conv=sparse status=none
}
