# Broken links, killed programs and long runs. Included by the Makefile.
#
#   make faults [CUTS=100000] [SEED=1]   the fault tests with more cuts (SAN=1: under sanitizers)
#   make soak [SESSIONS=10000] [STREAMS=1000000]   one kit, many sessions and streams; what is left of them
#   make dead-link                       what a frozen link costs a visitor with nobody's options: half a minute

FAULT_PROXY := $(B)/tests/fault_proxy

$(FAULT_PROXY): tests/faults/proxy.c
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	@$(CC) $(ALLFLAGS) -MF $@.d $(LDFLAGS) -o $@ $<

# Goes into programs with and without sanitizers, so it has none itself.
CLOCK_SHIM := $(B)/tests/clock_shim.so

$(CLOCK_SHIM): tests/faults/clock_shim.c
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	@$(CC) $(CSTD) -O2 $(CFLAGS) $(WARN) -fPIC -fvisibility=hidden -shared -o $@ $<

test-build: $(FAULT_PROXY) $(CLOCK_SHIM)

CUTS ?= 100000
SEED ?=
FAULTS := $(sort $(wildcard tests/integration/test_faults*.py))

# Straight from the script: `make test` bounds the time of each program, and these may take hours.
faults: all $(FAULT_PROXY) $(CLOCK_SHIM)
	@for t in $(FAULTS); do PYTHONPATH=. PYTHONDONTWRITEBYTECODE=1 HT_BIN=$(B)/hoody-tunnel HT_SAN=$(SAN) \
		CUTS=$(CUTS) SEED=$(SEED) $(PYTHON) $$t || exit 1; done

.PHONY: faults

SOAK_SESSIONS := $(B)/tests/soak_sessions
SESSIONS ?= 10000
STREAMS  ?= 1000000

$(SOAK_SESSIONS): tests/soak/sessions.c $(B)/librooms.a
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	@$(CC) $(ALLFLAGS) -MF $@.d $(LDFLAGS) -o $@ $< $(B)/librooms.a $(LDLIBS)

test-build: $(SOAK_SESSIONS)

soak: all $(FAULT_PROXY) $(SOAK_SESSIONS) $(B)/bench/load
	@PYTHONPATH=. PYTHONDONTWRITEBYTECODE=1 HT_BIN=$(B)/hoody-tunnel HT_SAN=$(SAN) \
		$(PYTHON) tests/soak/soak.py $(SESSIONS) $(STREAMS)

# What a frozen link costs a visitor with nobody's options: half a minute of waiting.
dead-link: all $(FAULT_PROXY)
	@HT_DEFAULTS=1 HT_BIN=$(B)/hoody-tunnel PYTHONPATH=. $(PYTHON) tests/integration/test_dead_link.py "everybody"

.PHONY: soak dead-link
