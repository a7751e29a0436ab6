# Building, testing, running and installing Banward. 'make help' lists what there is to do.

CARGO   ?= cargo
DESTDIR ?=
# Programs go to $(PREFIX)/sbin and $(PREFIX)/bin. Filters, units and the configuration have fixed places,
# because the programs and systemd look for them there.
PREFIX  ?= /usr
# A folder of labelled log lines with a scorer of its own; 'make test' scores the filters with it, and fails when one
# address is taken for another, or when less than FLOOR per cent of the offenders are found.
CORPUS  ?=
FLOOR   ?= 99
# How long 'make soak' takes, and 'make fuzz' on each target; TARGET is the one to fuzz, all without.
MINUTES ?= 10
TARGET  ?=

SHARE   = $(DESTDIR)/usr/share
SYSTEMD = $(DESTDIR)/usr/lib/systemd
ETC     = $(DESTDIR)/etc/banward
SBIN    = $(DESTDIR)$(PREFIX)/sbin
BIN     = $(DESTDIR)$(PREFIX)/bin
MAN     = $(DESTDIR)$(PREFIX)/share/man

.PHONY: help build run demo test check counts bench bench-rivals soak fuzz packages install uninstall

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build both programs, optimised
	@CARGO='$(CARGO)' tools/build.sh

run: ## Guard this machine until Ctrl-C; without root, show it in a private network namespace
	@tools/packages.sh run
	@CARGO='$(CARGO)' tools/build.sh
	@tools/run.sh

demo: ## Show an attack and its ban in a private network namespace
	@tools/packages.sh run
	@CARGO='$(CARGO)' tools/build.sh
	@tools/run.sh --demo

test: ## Run all checks and tests, those that need the kernel too (as root, or by sudo)
	@tools/packages.sh test
	@CARGO='$(CARGO)' CORPUS='$(CORPUS)' FLOOR='$(FLOOR)' tools/test.sh

check: ## Check configuration, filters, what is taken from others (cargo deny), and instruction counts
	@$(CARGO) build --quiet
	@tools/check.sh target/debug/banctl
	@CARGO='$(CARGO)' tools/deny.sh
	@tools/packages.sh count
	@CARGO='$(CARGO)' tools/counts.sh check

fuzz: ## Attack every parser, or TARGET=, for MINUTES=10 each (cargo-fuzz is installed when missing)
	@CARGO='$(CARGO)' tools/fuzz.sh '$(MINUTES)' $(TARGET)

counts: ## Count the instructions of each stage anew, for 'make check' to compare with
	@tools/packages.sh count
	@CARGO='$(CARGO)' tools/counts.sh write

bench: ## Measure everything beside its reference (as root); BENCH=scan for one part, BENCH_OUT=FILE to keep the table
	@tools/packages.sh bench
	@CARGO='$(CARGO)' BENCH='$(BENCH)' BENCH_OUT='$(BENCH_OUT)' tools/bench.sh

bench-rivals: ## The same log through other such programs, which this installs (as root)
	@tools/packages.sh rivals
	@CARGO='$(CARGO)' BENCH=rivals BENCH_OUT='$(BENCH_OUT)' tools/bench.sh

soak: ## Endure attacks, rotations, reloads, flushes and restarts at once for MINUTES (10), and count what was lost
	@tools/packages.sh test
	@CARGO='$(CARGO)' tools/soak.sh '$(MINUTES)'

packages: ## Install what running and testing need and is missing
	@tools/packages.sh test

install: build ## Install programs, filters, configuration, unit, manual pages, completions
	install -D -m 755 target/release/banward '$(SBIN)/banward'
	install -D -m 755 target/release/banctl '$(BIN)/banctl'
	install -d '$(SHARE)/banward/filters' '$(ETC)/conf.d' '$(ETC)/filters'
	install -m 644 filters/*.toml '$(SHARE)/banward/filters/'
	install -D -m 644 config/banward.toml '$(SHARE)/banward/banward.toml'
	test -e '$(ETC)/banward.toml' || install -m 644 config/banward.toml '$(ETC)/banward.toml'
	install -d '$(SYSTEMD)/system'
	sed 's|/usr/sbin/|$(PREFIX)/sbin/|' dist/banward.service > '$(SYSTEMD)/system/banward.service'
	chmod 644 '$(SYSTEMD)/system/banward.service'
	sed 's|/usr/bin/|$(PREFIX)/bin/|' dist/banward-rules.service > '$(SYSTEMD)/system/banward-rules.service'
	chmod 644 '$(SYSTEMD)/system/banward-rules.service'
	install -D -m 644 dist/banward.preset '$(SYSTEMD)/system-preset/80-banward.preset'
	install -D -m 644 dist/sysusers.d/banward.conf '$(DESTDIR)/usr/lib/sysusers.d/banward.conf'
	install -D -m 644 dist/tmpfiles.d/banward.conf '$(DESTDIR)/usr/lib/tmpfiles.d/banward.conf'
	for page in docs/man/*.[1-8]; do \
	    test -e "$$page" || continue; install -D -m 644 "$$page" '$(MAN)'/man"$${page##*.}/$${page##*/}"; done
	install -d '$(SHARE)/bash-completion/completions' '$(SHARE)/zsh/site-functions' '$(SHARE)/fish/vendor_completions.d'
	target/release/banctl completions bash > '$(SHARE)/bash-completion/completions/banctl'
	target/release/banctl completions zsh > '$(SHARE)/zsh/site-functions/_banctl'
	target/release/banctl completions fish > '$(SHARE)/fish/vendor_completions.d/banctl.fish'
	@echo
	@echo "Installed. To start: systemd-sysusers; systemd-tmpfiles --create; systemctl daemon-reload;"
	@echo "systemctl enable --now banward. Your own settings go to /etc/banward/conf.d/*.toml."

uninstall: ## Remove what 'make install' made; /etc/banward and /var/lib/banward stay
	rm -f '$(SBIN)/banward' '$(BIN)/banctl' '$(SYSTEMD)/system/banward.service'
	rm -f '$(SYSTEMD)/system/banward-rules.service'
	rm -f '$(SYSTEMD)/system-preset/80-banward.preset'
	rm -f '$(DESTDIR)/usr/lib/sysusers.d/banward.conf' '$(DESTDIR)/usr/lib/tmpfiles.d/banward.conf'
	rm -rf '$(SHARE)/banward'
	rm -f '$(MAN)'/man5/banward*.5 '$(MAN)'/man8/banward.8 '$(MAN)'/man8/banctl.8
	rm -f '$(SHARE)/bash-completion/completions/banctl' '$(SHARE)/zsh/site-functions/_banctl'
	rm -f '$(SHARE)/fish/vendor_completions.d/banctl.fish'
