# Needs a Rust toolchain, a C linker and make; the tests need nothing else.

CARGO ?= cargo
HARNESS = $(CARGO) test --quiet --package trustctl --test harness --

.PHONY: help test test-cli test-echo check

help:
	@echo 'make test       every test: those of the crates, then the harness'
	@echo 'make test-cli   the part of the harness about every command'
	@echo 'make test-echo  the part of the harness about the echo server'
	@echo 'make check      formatting, clippy and docs, with warnings denied'

# The harness is a test target like the others; it goes last, so that its summary is what one sees.
test:
	$(CARGO) test --workspace -- --skip harness::
	$(HARNESS)

test-cli:
	$(HARNESS) cli

test-echo:
	$(HARNESS) echo

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps
