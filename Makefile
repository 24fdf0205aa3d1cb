# make demo      attaches a real server's export to a real kernel, before your eyes
# make test      all the tests, those on the real driver included
# make check     form and lints
# make install   DESTDIR and PREFIX as usual
#
# The first two install what a fresh Debian machine lacks, and elsewhere name it.

PREFIX ?= /usr/local
DESTDIR ?=
CARGO ?= cargo

# What rustup installed may not be on the path of a shell that is no login shell.
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: all build demo test check install clean

all: build

build:
	$(CARGO) build --release --locked

demo:
	tests/setup demo
	$(CARGO) build --release --locked
	demo/run

test:
	tests/setup -v test
	$(CARGO) test --locked

# Form and lints; apart from the tests, as a newer toolchain may find more.
check:
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
