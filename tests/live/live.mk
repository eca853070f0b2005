# The live proofs of "nothing is cut". Included by the Makefile.
#
#   make restart-live [SEED=1] [LIVE_ARGS="--losses 100 --restarts 20 --mixed"]
#                        visitors of every kind while links are lost and the kit is restarted: nobody may see an error
#   make restart-rate [RATE_ARGS="--rate 5000 --restarts 5"]
#                        requests at a steady rate while the kit is restarted: what they take inside and outside of these moments

LIVE_RATE := $(B)/tests/live_rate

$(LIVE_RATE): tests/live/rate.c
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	@$(CC) $(ALLFLAGS) -MF $@.d $(LDFLAGS) -o $@ $<

test-build: $(LIVE_RATE)

LIVE := PYTHONPATH=. PYTHONDONTWRITEBYTECODE=1 HT_BIN=$(B)/hoody-tunnel HT_SAN=$(SAN) $(PYTHON) -m

restart-live: deps-test
	@$(MAKE) --no-print-directory all $(FAULT_PROXY)
	@$(LIVE) tests.live.live $(if $(SEED),--seed $(SEED)) $(LIVE_ARGS)

restart-rate: deps-test
	@$(MAKE) --no-print-directory all $(LIVE_RATE) $(B)/bench/load
	@$(LIVE) tests.live.rate $(RATE_ARGS)

.PHONY: restart-live restart-rate
