# Needs a Rust toolchain, a C linker and make; the tests need nothing else.

CARGO ?= cargo
SEEDS ?= 20000
RELAYS ?= 100000
TIME ?= 60
SCRIPTS ?= 300
FROM ?= 0
RUNS ?= 20
LANES ?= 1
HARNESS = $(CARGO) test --quiet --package trustctl --test harness --
# The suites of trustctl that need no root, no other programs and little time. The others have
# targets of their own.
SUITES_FOR_ALL = check exchange load load_merge process proxy surroundings structure toxiproxy

.PHONY: help test test-cli test-echo test-hostile conformance conformance-busy bed bed-busy boxes \
	pages promtool picture man dist packages packages-full hdr-log toxiproxy docs interleavings \
	sim planted adversary fuzz fuzz-check bench accuracy instructions proxy-load kubernetes prose \
	check publish-check stress full

help:
	@echo 'make test              every test of the crates, then the harness'
	@echo 'make test-cli          the part of the harness about all commands'
	@echo 'make test-echo         the part of the harness about the echo server'
	@echo 'make test-hostile      the hostile cases, in every model of the server; CASES=WORD'
	@echo 'make conformance       trustctl check against wrong and right servers; SERVERS=WORD'
	@echo 'make conformance-busy  the same three times, beside a busy loop on each core'
	@echo 'make bed               real servers of others, downloaded once; FULL=1, SERVERS=WORD,'
	@echo '                       SERVE=NAME; UPDATE=1 writes docs/SERVERS-TRIED.md'
	@echo 'make boxes             what boxes between change; BOXES=NAME; UPDATE=1 writes'
	@echo '                       docs/BOXES.md'
	@echo 'make bed-busy          the same three times, beside a busy loop on each core'
	@echo 'make pages             report pages and the live page in headless Chromium, as desktop,'
	@echo '                       phone and printer'
	@echo 'make promtool          metrics of the proxy, checked by promtool'
	@echo 'make picture           the pictures of the README, drawn from a real run; needs rinetd'
	@echo 'make man               manual pages and completions, in target/share'
	@echo 'make dist              packages, image and checksums of a release, in target/dist'
	@echo 'make packages          what is in them; ci/setup installs what this needs'
	@echo 'make packages-full     the same, and the package on Debian 11 and 12; needs root'
	@echo 'make hdr-log           our HDR logs in another reader; LOGS=FILES; needs python3-venv'
	@echo 'make toxiproxy         clients of Toxiproxy against trustctl toxiproxy-server;'
	@echo '                       CLIENTS=WORDS; installs them first'
	@echo 'make docs              tables and schemas in docs/ against the code; UPDATE=1 writes them'
	@echo 'make interleavings     code shared by threads, in every order of the threads'
	@echo 'make sim               connection lifetimes in simulated time; SEEDS=20000, and those of'
	@echo '                       relays; RELAYS=100000'
	@echo 'make planted           plants bugs one at a time, and expects the simulator to find them'
	@echo 'make adversary         simulated peers against the built server and proxy; SCRIPTS=300,'
	@echo '                       FROM=0'
	@echo 'make fuzz              every fuzz target; TIME=60 seconds; needs cargo-fuzz and C++'
	@echo 'make fuzz-check        builds the fuzz targets with warnings denied; needs a C++ compiler'
	@echo 'make bench             echo servers, load testers and relays side by side; BENCH=--help for'
	@echo '                       options'
	@echo 'make accuracy          how exact the times and rates of the proxy are, and how soon its API'
	@echo '                       answers with 10,000 connections'
	@echo 'make proxy-load        MESSAGES=10000000 through the proxy, of which none may be lost'
	@echo 'make instructions      instructions per echo, compared to those committed; needs valgrind'
	@echo 'make kubernetes        checks the manifests in packaging/; needs python3 with venv'
	@echo 'make stress            every suite RUNS=20 times, idle, busy and on one core; LANES=1,'
	@echo '                       SUITES=WORDS, CONDITIONS=WORDS; SUITES=list names the suites'
	@echo 'make full              what takes a night: long searches and stress; needs root, cargo-fuzz'
	@echo 'make prose             wording and line lengths'
	@echo 'make check             formatting, clippy and rustdoc with warnings denied, and prose'
	@echo 'make publish-check     packages and builds what is published, and uploads nothing'

# The harness goes last, so that its summary is what one sees.
test:
	$(CARGO) test --workspace --exclude trustctl
	$(CARGO) test --package trustctl --lib --bins --test toxiproxy_cli \
		$(addprefix --test ,$(SUITES_FOR_ALL))
	$(HARNESS)
	@echo 'Not run here: make test-hostile, make adversary, make conformance, make interleavings'

test-cli:
	$(HARNESS) cli::

test-echo:
	$(HARNESS) echo::

# Needs root, strace and iproute2 for some cases, which are skipped elsewhere. CASES=WORD runs those
# with that in their names.
test-hostile:
	$(CARGO) test --package trustctl --test hostile -- $(CASES)

# trust-bench has one of the right servers; ci/setup installs what others need. SERVERS=WORD tries
# only those with that in their names.
conformance:
	$(CARGO) build --quiet --package trust-bench
	$(CARGO) test --package trustctl --test conformance -- $(SERVERS)

# A part of make stress.
conformance-busy:
	$(MAKE) stress RUNS=3 SUITES=conformance CONDITIONS=busy

# Needs what ci/bed says. SERVERS=WORD tries only those with that in their names; FULL=1 tries all
# cases, instead of those of --quick. SERVE=NAME keeps one running until Ctrl-C, and prints its
# port. UPDATE=1 writes the table of docs/SERVERS-TRIED.md anew.
bed:
	ci/bed
	$(if $(UPDATE),TRUSTCTL_UPDATE_DOCS=1) $(if $(FULL),TRUSTCTL_BED_FULL=1) \
		$(CARGO) test --package trustctl --test bed -- $(if $(SERVE),serve $(SERVE),$(SERVERS))

# Boxes between a client and a server; needs what ci/bed says. BOXES=NAME tries one; UPDATE=1 writes
# the table of docs/BOXES.md anew.
boxes:
	ci/bed
	$(if $(UPDATE),TRUSTCTL_UPDATE_DOCS=1) \
		$(CARGO) test --package trustctl --test bed -- boxes/$(BOXES)

# A part of make stress.
bed-busy:
	ci/bed
	$(MAKE) stress RUNS=3 SUITES=bed CONDITIONS=busy

# Needs chromium and chromium-driver. What was seen is in the directory below, to be looked at. A
# check that expects another framing has failures to show, and exits with 1.
PAGES = $(abspath $(or $(CARGO_TARGET_DIR),target))/pages
SERVER = exec "$(PAGES)/../debug/trustctl" echo-server --port {port}
TRUSTCTL = $(CARGO) run --quiet --package trustctl --
CHECK = $(TRUSTCTL) check --command '$(SERVER)' --case 'framing/*'
COMPARE = $(TRUSTCTL) check compare

pages:
	rm -rf $(PAGES) && mkdir -p $(PAGES)
	TRUSTCTL_PAGES=$(PAGES) $(CARGO) test --quiet --package trust-load --lib -- \
		--ignored pages_for_a_browser
	$(CHECK) --json --html $(PAGES)/check-right.html >$(PAGES)/check-right.json
	$(CHECK) --json --framing u16le --html $(PAGES)/check-wrong.html >$(PAGES)/check-wrong.json || \
		[ $$? -eq 1 ]
	$(COMPARE) $(PAGES)/check-right.json $(PAGES)/check-wrong.json \
		--html $(PAGES)/compare.html >$(PAGES)/compare.txt || [ $$? -eq 1 ]
	ci/load-pages $(PAGES)
	ci/page --shots $(PAGES)/shots $(PAGES)/*.html
	TRUSTCTL_PAGES=$(PAGES) $(CARGO) test --quiet --package trust-toxiproxy --test api -- \
		--ignored the_page_works_in_a_browser

# Debian has promtool in its package prometheus.
promtool:
	$(CARGO) test --quiet --package trust-toxiproxy --test api -- --ignored the_tool_of_prometheus

picture:
	ci/picture

OUT = $(abspath $(or $(CARGO_TARGET_DIR),target))

man:
	$(CARGO) build --quiet --package trustctl --bin trustctl
	packaging/pages $(OUT)/debug/trustctl $(OUT)

# What a release consists of, in target/dist.
dist:
	packaging/dist

# Contents of the packages; then everything, on whole systems.
PACKAGES = TRUSTCTL_DIST=$(OUT)/dist $(CARGO) test --package trustctl --test packages -- --ignored

packages: dist
	$(PACKAGES) --skip systems::

packages-full: dist
	$(PACKAGES)

# Installs the reader from PyPI, once.
hdr-log:
	ci/hdr-log $(LOGS)

# Installs clients that are not ours from their registries, once. CLIENTS='python node' runs only
# these.
toxiproxy:
	ci/toxiproxy $(CLIENTS)

DOCS = $(if $(UPDATE),TRUSTCTL_UPDATE_DOCS=1) $(CARGO) test --quiet --package trustctl

docs:
	$(DOCS) --lib docs
	$(DOCS) --test hostile -- 'the tables in the docs'
	$(DOCS) --test conformance -- the_tables_of_servers

interleavings:
	ci/interleavings

# A failure prints its seed S, and how to replay it: cargo run --release -p trust-sim -- --seed S;
# with --relay in front, if it is one of a relay.
sim:
	$(CARGO) run --quiet --release --package trust-sim -- --seeds $(SEEDS)
	$(CARGO) run --quiet --release --package trust-sim -- --relay --seeds $(RELAYS)

# FIRST=44 plants only so many: all of the echo service, and ten of the relay.
planted:
	FIRST=$(FIRST) crates/trust-sim/planted/run

# Needs root, iproute2 and nftables. A failure prints the seed and how to play it alone. The proxy
# gets schedules of its own, which need nothing.
adversary:
	$(CARGO) test --package trustctl --test adversary -- --scripts $(SCRIPTS) --from $(FROM)
	$(CARGO) test --package trustctl --test proxy -- --ignored schedules::

# The inputs that were kept are replayed by make test, which needs neither.
fuzz:
	TIME=$(TIME) fuzz/run

fuzz-check:
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) clippy --locked --manifest-path fuzz/Cargo.toml \
		--target-dir $${CARGO_TARGET_DIR:-target} --all-targets -- -D warnings

# Takes half an hour, and wants a machine with two cores to itself.
bench:
	$(CARGO) build --release --package trustctl --bin trustctl
	$(CARGO) run --release --package trust-bench --bin trust-bench -- $(BENCH)

# Takes a minute and a half, and wants a machine to itself. It writes the tables of docs/PROXY.md.
accuracy:
	$(CARGO) build --release --package trustctl --bin trustctl
	$(CARGO) run --release --package trust-bench --bin trust-accuracy -- \
		--document docs/PROXY.md

# Messages through the proxy, of which none may be lost. Optimized: ten million take minutes.
MESSAGES ?= 10000000
proxy-load:
	MESSAGES=$(MESSAGES) $(CARGO) test --release --package trustctl --test proxy -- \
		a_load_through_a_proxy_loses_nothing

# The names of functions must be there, so this has a profile of its own. UPDATE=1 writes the
# numbers anew.
instructions:
	$(CARGO) bench --quiet --profile instructions --package trust-net --bench instructions -- \
		$(if $(UPDATE),--update)

# The first time it gets schemas from the Python package index, and keeps them.
kubernetes:
	ci/kubernetes

# What to improve is printed with its file and line; the patterns, and the exceptions with their
# reasons, are in crates/trust-testkit/tests/prose.
prose:
	$(CARGO) test --quiet --package trust-testkit --test prose

# trustctl with one product alone: no product needs another.
check: prose
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	for product in echo load check proxy; do \
		$(CARGO) clippy --quiet --package trustctl --no-default-features --features $$product -- \
			-D warnings || exit 1; \
	done
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps

# Needs the registry, and a work tree without changes. Each run has a target directory of its own:
# in one that it knows, cargo takes a changed crate for the one of that version it built before.
publish-check:
	mkdir -p $(OUT)
	target=$$(mktemp -d $(OUT)/publish.XXXXXX) || exit; \
		$(CARGO) publish --workspace --dry-run --target-dir $$target; \
		status=$$?; rm -rf $$target; exit $$status

# The table, and what failed runs printed, are in target/stress.
stress:
	RUNS='$(RUNS)' LANES='$(LANES)' SUITES='$(SUITES)' CONDITIONS='$(CONDITIONS)' ci/stress

full:
	ci/full
