# The conformance suite against our kit and our driver. See conformance/README.md.
CONFORMANCE := $(W)/conformance
conformance: deps
	@$(MAKE) --no-print-directory all
	@mkdir -p $(CONFORMANCE)
	@W=$(W) $(PYTHON) conformance/run.py --set bin=$(B)/hoody-tunnel --html $(CONFORMANCE)/report.html \
		--json $(CONFORMANCE)/report.json --junit $(CONFORMANCE)/report.xml $(CONFORMANCE_ARGS)

# Fails on a rule of the protocol or an answer of the admin API that no case is about.
conformance-coverage: gen
	@W=$(W) $(PYTHON) conformance/coverage.py $(COVERAGE_ARGS)

# The published TypeScript SDK as a driver: SDK_DIR names the directory that its package is unpacked in.
conformance-sdk: gen
	@test -n "$(SDK_DIR)" || { echo "SDK_DIR=... names the directory of the unpacked SDK (it holds dist-ts/)"; exit 2; }
	@mkdir -p $(CONFORMANCE)
	@W=$(W) SDK_DIR="$(SDK_DIR)" $(PYTHON) conformance/run.py -a typescript-sdk -j 8 --patience 4 --html $(CONFORMANCE)/sdk.html \
		--json $(CONFORMANCE)/sdk.json --junit $(CONFORMANCE)/sdk.xml $(CONFORMANCE_ARGS)

.PHONY: conformance conformance-coverage conformance-sdk

# The suite against our kit and driver with one seeded fault after the other (faults.yaml); 95 % must be caught.
conformance-mutants: deps
	@$(MAKE) --no-print-directory all gen
	@$(PYTHON) conformance/mutants.py $(MUTANTS_ARGS)

.PHONY: conformance-mutants
