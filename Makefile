# make demo      attaches a real server's export to a real kernel, before your eyes
# make test      all the tests, those on the real driver included
# make check     form and lints
# make fuzz      SECONDS=60 for each target of fuzz/; make test does it, too
# make install   DESTDIR and PREFIX as usual
#
# The first three install what a fresh Debian machine lacks, and elsewhere name it.

PREFIX ?= /usr/local
DESTDIR ?=
CARGO ?= cargo
SECONDS ?= 60

# What rustup installed may not be on the path of a shell that is no login shell.
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: all build demo test fuzz check install clean

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
	$(CARGO) test --locked
	$(MAKE) fuzz

# Needs a C++ compiler beside the toolchain.
fuzz:
	CARGO="$(CARGO)" fuzz/run handshake $(SECONDS)
	CARGO="$(CARGO)" fuzz/run transmission $(SECONDS)

# Form and lints; apart from the tests, as a newer toolchain may find more.
check:
	tests/setup check
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --locked -- -D warnings

install: build
	install -D -m 755 target/release/nbdctl $(DESTDIR)$(PREFIX)/sbin/nbdctl
	target/release/nbdctl generate target/generated
	install -d $(DESTDIR)$(PREFIX)/share/man/man8
	install -m 644 target/generated/*.8 $(DESTDIR)$(PREFIX)/share/man/man8
	install -D -m 644 target/generated/nbdctl.bash \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/nbdctl
	install -D -m 644 target/generated/_nbdctl \
		$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_nbdctl
	install -D -m 644 target/generated/nbdctl.fish \
		$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/nbdctl.fish

clean:
	$(CARGO) clean
