# make demo      attaches a real server's export to a real kernel, before your eyes
# make test      all the tests, those on the real driver included
# make kernels   what of the guests make test leaves out: mostly Linux 6.1 where 6.12 will do
# make test-boot-all   every boot with the root over NBD; make test has the first of them
# make check     form and lints
# make fuzz      SECONDS=60 for each target of fuzz/; make test does it for 20
# make campaign  random faults under load: SEED=1 FAULTS=20 SERVER=qemu-nbd KERNEL=6.12
#                DATA=kernel or relay, the path of the data; ONLY=FAULT,...
# make outages   the tests' outages at their full length: 30 s, a minute, ten minutes
# make bench     the relay beside the direct connection and beside its peers, as ratios
# make install   DESTDIR and PREFIX as usual
# make deb       a Debian package, in target/deb
#
# demo, test, check and deb install what a fresh Debian machine lacks, and elsewhere name it.

PREFIX ?= /usr/local
DESTDIR ?=
BINARY ?= target/release/nbdctl
GENERATED ?= target/generated
LIB = $(PREFIX)/lib
# Both look below /usr only: an initramfs takes PREFIX=/usr.
DRACUT = $(LIB)/dracut/modules.d/95nbdctl
INITRAMFS = $(PREFIX)/share/initramfs-tools
# Where zsh looks by itself: a local folder, and the distribution's.
ZSH = $(if $(filter /usr,$(PREFIX)),vendor-completions,site-functions)
UNITS = systemd/nbdctl@.service systemd/nbdctl-shutdown.service systemd/nbdctl-root.service \
	systemd/nbdctl-network.service systemd/remote-nbd.target
CARGO ?= cargo
SECONDS ?= 60
SEED ?= 1
FAULTS ?= 20
SERVER ?= qemu-nbd
KERNEL ?= 6.12
DATA ?= kernel

# What rustup installed may not be on the path of a shell that is no login shell.
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: all build demo test test-boot-all kernels fuzz campaign bench outages check install install-files deb clean

all: build

build:
	$(CARGO) build --release --locked

demo:
	tests/setup demo
	$(CARGO) build --release --locked
	demo/run

test:
	tests/setup -v test
	$(CARGO) build --release --locked
	# Two guests at a time have work to do; three more may wait beside them.
	# All of them, whatever fails: what did is told at the end.
	RUST_TEST_THREADS=8 $(CARGO) test --locked --no-fail-fast
	$(MAKE) fuzz SECONDS=20

kernels:
	tests/setup test
	RUST_TEST_THREADS=8 $(CARGO) test --locked --test kernel --test systems -- --ignored

test-boot-all:
	tests/setup test
	$(CARGO) build --release --locked
	$(CARGO) test --locked --test boot -- --include-ignored --nocapture

# Needs a C++ compiler beside the toolchain.
fuzz:
	$(MAKE) -j3 fuzz-handshake fuzz-transmission fuzz-relay

fuzz-%:
	CARGO="$(CARGO)" fuzz/run $* $(SECONDS)

campaign:
	tests/setup test
	$(CARGO) test --locked --test campaign -- \
		seed=$(SEED) faults=$(FAULTS) server=$(SERVER) kernel=$(KERNEL) path=$(DATA) \
		$(if $(ONLY),only=$(ONLY))

bench:
	tests/setup test
	$(CARGO) bench --locked --bench relay

outages:
	tests/setup test
	NBDCTL_FULL_LENGTH=1 $(CARGO) test --locked --test kernel -- \
		outages:: silence:: calm:: monitors:: mounted:: patience:: steps:: relay:: forgets:: worth:: two_hundred --include-ignored --nocapture

# Form and lints; apart from the tests, as a newer toolchain may find more.
check:
	tests/setup check
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --locked -- -D warnings
	$(CARGO) clippy --test campaign --locked -- -D warnings

install: build install-files

# The files alone, of a program that is built: for packages.
install-files:
	install -D -m 755 $(BINARY) $(DESTDIR)$(PREFIX)/sbin/nbdctl
	rm -rf $(GENERATED)
	$(BINARY) generate $(GENERATED)
	install -d $(DESTDIR)$(PREFIX)/share/man/man8
	install -m 644 $(GENERATED)/*.8 $(DESTDIR)$(PREFIX)/share/man/man8
	install -D -m 644 $(GENERATED)/nbdctl.bash \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/nbdctl
	install -D -m 644 $(GENERATED)/_nbdctl \
		$(DESTDIR)$(PREFIX)/share/zsh/$(ZSH)/_nbdctl
	install -D -m 644 $(GENERATED)/nbdctl.fish \
		$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/nbdctl.fish
	install -d $(DESTDIR)$(LIB)/systemd/system $(DESTDIR)$(LIB)/systemd/system-generators
	install -m 644 $(UNITS) $(DESTDIR)$(LIB)/systemd/system
	install -D -m 644 systemd/nbdctl@.service.d/10-order.conf \
		$(DESTDIR)$(LIB)/systemd/system/nbdctl@.service.d/10-order.conf
	ln -sf ../../../sbin/nbdctl $(DESTDIR)$(LIB)/systemd/system-generators/nbdctl-generator
	install -d $(DESTDIR)$(LIB)/udev/rules.d
	install -m 644 udev/*.rules $(DESTDIR)$(LIB)/udev/rules.d
	install -d $(DESTDIR)$(DRACUT) $(DESTDIR)$(INITRAMFS)/hooks $(DESTDIR)$(INITRAMFS)/scripts/local-top
	install -m 755 initramfs/dracut/95nbdctl/*.sh $(DESTDIR)$(DRACUT)
	install -m 644 initramfs/dracut/95nbdctl/*.conf $(DESTDIR)$(DRACUT)
	install -m 755 initramfs/initramfs-tools/hooks/nbdctl $(DESTDIR)$(INITRAMFS)/hooks
	install -m 755 initramfs/initramfs-tools/scripts/local-top/nbdctl \
		$(DESTDIR)$(INITRAMFS)/scripts/local-top
	# They name the program by its path.
	sed -i 's,/usr/sbin/nbdctl,$(PREFIX)/sbin/nbdctl,g' \
		$(UNITS:systemd/%=$(DESTDIR)$(LIB)/systemd/system/%) \
		$(DESTDIR)$(LIB)/udev/rules.d/59-nbdctl.rules \
		$(DESTDIR)$(DRACUT)/* $(DESTDIR)$(INITRAMFS)/hooks/nbdctl \
		$(DESTDIR)$(INITRAMFS)/scripts/local-top/nbdctl
	install -D -m 644 udev/modprobe.conf $(DESTDIR)$(LIB)/modprobe.d/nbdctl.conf
	install -D -m 644 udev/modules-load.conf $(DESTDIR)$(LIB)/modules-load.d/nbdctl.conf

deb:
	tests/setup deb
	$(CARGO) build --release --locked
	packaging/deb/build $(BINARY) target/deb

clean:
	$(CARGO) clean
