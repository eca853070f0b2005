# Bad inputs at every listener. Included by the Makefile.
#
#   make hostile [N=100000] [SEED=7]   the hostile tests with more inputs (SAN=1: under sanitizers)

N    ?= 100000
HOSTILE := $(sort $(wildcard tests/integration/test_hostile*.py))
HOSTILE_C := $(B)/tests/driver/test_hostile_kit

# Straight from the scripts: `make test` bounds the time of each program.
hostile: all $(HOSTILE_C)
	@HOSTILE_N=$(N) HOSTILE_SEED=$(SEED) $(HOSTILE_C)
	@for t in $(HOSTILE); do PYTHONPATH=. PYTHONDONTWRITEBYTECODE=1 HT_BIN=$(B)/hoody-tunnel HT_SAN=$(SAN) \
		HOSTILE_N=$(N) HOSTILE_SEED=$(SEED) $(PYTHON) $$t || exit 1; done

.PHONY: hostile
