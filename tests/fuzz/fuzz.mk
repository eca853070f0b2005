# Fuzzing. Included by the Makefile.
#
#   make fuzz [SECONDS=60] [UNITS="json request"]   each target under libFuzzer, with ASan and UBSan
#   make fuzz-replay                                the same targets with the usual compiler, for the corpora (SAN=1 too)

FUZZ_UNITS := $(patsubst tests/fuzz/fuzz_%.c,%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
UNITS      ?= $(FUZZ_UNITS)
SECONDS    ?= 60
FUZZ_CC    ?= clang
FUZZ_SAN   := address,undefined
FUZZ_FLAGS  = $(CSTD) -O1 -g -fno-omit-frame-pointer -fno-sanitize-recover=undefined -DHT_SANITIZED=1 -MMD -MP $(CPPFLAGS)
FUZZ_ROOMS := $(filter-out cli/main,$(C_SRC:src/%.c=%)) $(RL_C:$(GEN)/%.c=%) $(GEN_C:$(GEN)/%.c=gen/%)
FUZZ_OBJ   := $(FUZZ_ROOMS:%=$(W)/fuzz/obj/%.o)
FUZZ_BIN   := $(UNITS:%=$(W)/fuzz/fuzz_%)
REPLAY     := $(FUZZ_UNITS:%=$(B)/fuzz/replay_%)

$(W)/fuzz/obj/%.o: src/%.c | $(GEN_NEEDED)
	@mkdir -p $(@D)
	@$(FUZZ_CC) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link,$(FUZZ_SAN) -c $< -o $@
$(W)/fuzz/obj/gen/%.o: $(GEN)/%.c
	@mkdir -p $(@D)
	@$(FUZZ_CC) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link,$(FUZZ_SAN) -c $< -o $@
$(W)/fuzz/obj/rl/%.o: $(GEN)/rl/%.c | $(GEN_NEEDED)
	@mkdir -p $(@D)
	@$(FUZZ_CC) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link,$(FUZZ_SAN) -c $< -o $@

$(W)/fuzz/librooms.a: $(FUZZ_OBJ)
	@rm -f $@
	@$(AR) rcs $@ $^

$(W)/fuzz/fuzz_%: tests/fuzz/fuzz_%.c $(W)/fuzz/librooms.a
	@echo "  FUZZ  $@"
	@$(FUZZ_CC) $(FUZZ_FLAGS) -MF $@.d -fsanitize=fuzzer,$(FUZZ_SAN) -Itests -o $@ $< $(W)/fuzz/librooms.a $(LDLIBS)

# The target and replay.c, compiled as strictly as the rooms.
$(B)/fuzz/replay_%: tests/fuzz/fuzz_%.c tests/fuzz/replay.c $(B)/librooms.a | $(GEN_NEEDED)
	@mkdir -p $(@D)
	@echo "  TEST  $@"
	@$(CC) $(ALLFLAGS) -MMD -c tests/fuzz/replay.c -o $@.replay.o
	@$(CC) $(ALLFLAGS) -MF $@.d -Itests $(LDFLAGS) -o $@ $< $@.replay.o $(B)/librooms.a $(LDLIBS)

# Seeds and dictionaries: from the vectors, the options' spec and the API's description.
$(B)/fuzz/seeds.stamp: tests/fuzz/seeds.py $(wildcard tests/fuzz/dict/*.dict) $(GEN)/vectors.json $(GEN)/vtunnel_vectors.json $(GEN)/openapi.json \
                       spec/options.yaml spec/commands.yaml spec/audit.yaml spec/users.yaml
	@mkdir -p $(@D)
	@$(PYTHON) tests/fuzz/seeds.py $(GEN) $(B)/fuzz
	@touch $@

fuzz-replay: $(REPLAY) $(B)/fuzz/seeds.stamp

fuzz: $(FUZZ_BIN) $(W)/fuzz/seeds.stamp
	@$(PYTHON) tests/fuzz/fuzz.py $(W)/fuzz $(SECONDS) $(UNITS)

.SECONDARY: $(RL_C) $(SUPPORT)
-include $(FUZZ_OBJ:.o=.d) $(FUZZ_BIN:=.d) $(REPLAY:=.d)
.PHONY: fuzz fuzz-replay
