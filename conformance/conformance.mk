# The conformance suite against our kit and our driver. See conformance/README.md.
CONFORMANCE := $(W)/conformance
conformance: all
	@mkdir -p $(CONFORMANCE)
	@W=$(W) $(PYTHON) conformance/run.py --set bin=$(B)/hoody-tunnel --html $(CONFORMANCE)/report.html \
		--json $(CONFORMANCE)/report.json --junit $(CONFORMANCE)/report.xml $(CONFORMANCE_ARGS)

.PHONY: conformance
