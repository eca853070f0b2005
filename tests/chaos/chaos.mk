# Random play of the whole kit and of the driver, under sanitizers. Included by the Makefile.
#
#   make chaos [SEED=1] [SECONDS=60] [CHAOS_ARGS="--only kit"]   rounds of play; every round prints the seed that repeats it

chaos:
	@$(MAKE) --no-print-directory SAN=1 all
	@HT_BIN=$(W)/san/hoody-tunnel ASAN_OPTIONS=detect_leaks=1:exitcode=99 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
		$(PYTHON) tests/chaos/chaos.py $(CHAOS_ARGS) $(if $(SEED),--seed $(SEED)) $(if $(SECONDS),--seconds $(SECONDS))

.PHONY: chaos
