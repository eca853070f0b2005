# hoody-tunnel. `make help` lists the targets. Plain GNU make, everything it makes is under build/.
#
# SAN=1 builds the same with AddressSanitizer and UndefinedBehaviorSanitizer, in build/san/. RELEASE=1 builds it as `make install` and
# `make bench` do, in build/release/: the program is optimized as a whole. That takes longer after each change, for 4 % more requests a second.

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:

VERSION := $(shell sed -n 's/^#define HT_VERSION "\(.*\)"/\1/p' src/driver/hoody_tunnel.h)
PREFIX  ?= /usr/local

ROOMS := base opt json wire flow mux http io auth proc ws web relay vtunnel guard gate inspect admin kit driver edge cli
# W is where everything goes; another one lets two builds live side by side.
W     ?= build
GEN   := $(W)/gen
B     := $(W)$(if $(SAN),/san,$(if $(RELEASE),/release))

# The first python3 that has what the generator needs; the one on the PATH may not.
# PYTHON=... on the command line is taken as it is.
PYTHON := $(or $(if $(filter command,$(origin PYTHON)),$(PYTHON)),$(shell for p in python3 /usr/bin/python3; do \
	$$p -c 'import jinja2, yaml, jsonschema' 2>/dev/null && { echo $$p; break; }; done),/usr/bin/python3)

CC      ?= cc
CSTD    := -std=c11 -D_GNU_SOURCE
WARN    := -Wall -Wextra -Wpedantic -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
           -Wwrite-strings -Wformat=2 -Wno-format-nonliteral
OPT     ?= -O2
HARDEN  := -fstack-protector-strong -D_FORTIFY_SOURCE=2
ifdef SAN
OPT     := -O1 -fno-omit-frame-pointer
HARDEN  := -fsanitize=address,undefined -fno-sanitize-recover=undefined -DHT_SANITIZED=1
LDSAN   := -fsanitize=address,undefined
else ifdef RELEASE
# fat: the libraries are made of the same objects, for linkers that know nothing of it.
LTO     := $(if $(findstring clang,$(CC)),,-flto=auto -ffat-lto-objects)
endif
CFLAGS  ?= -g
CPPFLAGS += -Isrc -I$(GEN) -DKIT_VERSION='"$(VERSION)"'
ALLFLAGS = $(CSTD) $(OPT) $(LTO) $(CFLAGS) $(WARN) $(HARDEN) -fPIC -fvisibility=hidden -MMD -MP $(CPPFLAGS)
LDLIBS  := -lev -lwslay -lcjson -lyaml -lqrencode -lssl -lcrypto -lseccomp -lpthread
LDFLAGS += $(LDSAN) -Wl,-z,relro,-z,now -Wl,--as-needed
# Most of what the loader reads to start the program is relative relocations; packed they are a page or two (where the linker can).
PACKED  := -Wl,-z,pack-relative-relocs

# ---- generated files. Each output names the specs, the modules and the template it is made from. ----
# A spec is read once for all outputs that are to be made anew: what a stamp's recipe makes is what $? is a part of. An
# output that comes out as it was keeps its time, so that nothing is compiled anew for it.
GEN_BASE := gen/__init__.py gen/__main__.py gen/specfile.py gen/render.py
define gen_rule # 1 output, 2 what it is made from
GEN_FILES += $(GEN)/$(1)
FROM_$(1) := $(2) $(GEN_BASE)
OF_$(firstword $(2)) += $(1)
$(GEN)/$(1): $(GEN)/.$(notdir $(firstword $(2)))
	@test -e $$@ || $(PYTHON) -m gen $(1) -d $(GEN)
endef
define gen_spec # 1 spec
$(GEN)/.$(notdir $(1)): $$(sort $$(foreach o,$$(OF_$(1)),$$(FROM_$$(o))))
	@mkdir -p $(GEN) && touch $$@.part
	@echo "  GEN   $(GEN), what comes of $(1)"
	@$(PYTHON) -m gen $$(foreach o,$$(OF_$(1)),$$(if $$(filter $$?,$$(FROM_$$(o))),$$(o))) -d $(GEN)
	@mv $$@.part $$@
endef
PROTO := spec/protocol.yaml spec/rules.yaml spec/protocol.schema.json gen/protocol.py
$(eval $(call gen_rule,wire_gen.h,$(PROTO) gen/templates/wire_gen.h.j2))
$(eval $(call gen_rule,wire_gen.c,$(PROTO) gen/templates/wire_gen.c.j2))
$(eval $(call gen_rule,vectors.json,$(PROTO) gen/vectors.py))
$(eval $(call gen_rule,hoody_wire.py,$(PROTO) gen/pycodec.py gen/hoody_wire.py))
$(eval $(call gen_rule,protocol.md,$(PROTO) gen/reference.py gen/templates/protocol.md.j2))
# The second kind of wire: text messages with JSON.
TEXT := spec/vtunnel.yaml spec/vtunnel.schema.json gen/textwire.py gen/ctext.py
$(eval $(call gen_rule,vtunnel_gen.h,$(TEXT) gen/templates/text_gen.h.j2))
$(eval $(call gen_rule,vtunnel_gen.c,$(TEXT) gen/templates/text_gen.c.j2))
$(eval $(call gen_rule,vtunnel_vectors.json,$(TEXT) gen/textvectors.py))
$(eval $(call gen_rule,vtunnel_wire.py,$(TEXT) gen/textcodec.py gen/text_wire.py))
$(eval $(call gen_rule,vtunnel.md,$(TEXT) gen/textref.py gen/reference.py gen/protocol.py gen/templates/text.md.j2))
# What a kit leaves to the one that follows it, of the same kind.
HAND := $(TEXT:spec/vtunnel.yaml=spec/restart.yaml)
$(eval $(call gen_rule,restart_gen.h,$(HAND) gen/templates/text_gen.h.j2))
$(eval $(call gen_rule,restart_gen.c,$(HAND) gen/templates/text_gen.c.j2))
$(eval $(call gen_rule,restart_wire.py,$(HAND) gen/textcodec.py gen/text_wire.py))
# Options, metrics and the admin API take numbers and lists from the protocol's spec.
GEN_REF := spec/protocol.yaml spec/rules.yaml spec/vtunnel.yaml gen/protocolref.py gen/ctext.py
OPTS := spec/options.yaml spec/commands.yaml spec/audit.yaml spec/users.yaml spec/options.schema.json gen/options.py gen/configfile.py $(GEN_REF)
$(eval $(call gen_rule,options_gen.h,$(OPTS) gen/templates/options_gen.h.j2))
$(eval $(call gen_rule,options_gen.c,$(OPTS) gen/templates/options_gen.c.j2))
$(eval $(call gen_rule,events_gen.h,$(OPTS) gen/events.py gen/templates/events_gen.h.j2))
$(eval $(call gen_rule,events_gen.c,$(OPTS) gen/events.py gen/templates/events_gen.c.j2))
$(eval $(call gen_rule,audit_gen.h,$(OPTS) gen/events.py gen/templates/audit_gen.h.j2))
$(eval $(call gen_rule,audit_line.schema.json,$(OPTS) gen/events.py))
# For users: what the shells complete, and the manual, a page for each command.
SHELLS := bash zsh fish
$(foreach s,$(SHELLS),$(eval $(call gen_rule,completion.$(s),$(OPTS) gen/completions.py gen/templates/completion.$(s).j2)))
$(foreach h,h c,$(eval $(call gen_rule,completions_gen.$(h),$(OPTS) gen/completions.py gen/templates/completions_gen.$(h).j2 \
	$(SHELLS:%=gen/templates/completion.%.j2))))
COMMANDS := $(shell sed -n '/^commands:/,/^hints:/s/^  - name: //p' spec/commands.yaml | tr ' ' '-')
MAN   := $(GEN)/man
PAGES := hoody-tunnel.1 $(COMMANDS:%=hoody-tunnel-%.1) hoody-tunnel.yaml.5 hoody-tunnel-users.yaml.5
$(foreach p,$(PAGES),$(eval $(call gen_rule,man/$(p),$(OPTS) gen/manpages.py gen/templates/program.1.j2 \
	gen/templates/command.1.j2 gen/templates/config.5.j2 gen/templates/users.5.j2 gen/templates/keys.5.j2)))
DOC_FILES := $(SHELLS:%=$(GEN)/completion.%) $(PAGES:%=$(MAN)/%)
METR := spec/metrics.yaml spec/metrics.schema.json gen/metrics.py $(GEN_REF)
$(eval $(call gen_rule,metrics_gen.h,$(METR) gen/templates/metrics_gen.h.j2))
$(eval $(call gen_rule,metrics_gen.c,$(METR) gen/templates/metrics_gen.c.j2))
LOGS := spec/log.yaml spec/log.schema.json gen/log.py gen/ctext.py
$(eval $(call gen_rule,log_gen.h,$(LOGS) gen/templates/log_gen.h.j2))
$(eval $(call gen_rule,log_line.schema.json,$(LOGS)))
# The edge: names that HAProxy's configuration and the agent share, and that configuration.
HAPR := spec/haproxy.yaml spec/haproxy.schema.json src/edge/haproxy.cfg.j2 src/edge/gate.spoe.j2 src/edge/gate.lua.j2 src/edge/answer.lua.j2 gen/haproxy.py gen/ctext.py
$(foreach h,h c,$(eval $(call gen_rule,haproxy_gen.$(h),$(HAPR) gen/templates/haproxy_gen.$(h).j2)))
OAPI := spec/openapi.yaml spec/openapi.schema.json gen/openapi.py $(GEN_REF)
IAPI := $(OAPI:spec/openapi.yaml=spec/inspector.yaml)
$(eval $(call gen_rule,admin_gen.h,$(OAPI) gen/templates/api_gen.h.j2))
$(eval $(call gen_rule,admin_gen.c,$(OAPI) gen/templates/api_gen.c.j2))
$(eval $(call gen_rule,openapi.json,$(OAPI)))
$(eval $(call gen_rule,inspect_api_gen.h,$(IAPI) gen/templates/api_gen.h.j2))
$(eval $(call gen_rule,inspect_api_gen.c,$(IAPI) gen/templates/api_gen.c.j2))
$(eval $(call gen_rule,inspector.json,$(IAPI)))
EAPI := $(OAPI:spec/openapi.yaml=spec/edge.yaml)
$(eval $(call gen_rule,edge_api_gen.h,$(EAPI) gen/templates/api_gen.h.j2))
$(eval $(call gen_rule,edge_api_gen.c,$(EAPI) gen/templates/api_gen.c.j2))
$(eval $(call gen_rule,edge.json,$(EAPI)))
# Pages for browsers, as bytes of the program.
HTML := src/web/pages/status.js $(filter-out src/web/pages/status.js,$(wildcard src/web/pages/*)) gen/page.py gen/ctext.py
$(eval $(call gen_rule,page_gen.h,$(HTML) gen/templates/page_gen.h.j2))
$(eval $(call gen_rule,page_gen.c,$(HTML) gen/templates/page_gen.c.j2))
$(foreach s,$(foreach n,protocol vtunnel restart options metrics log haproxy openapi inspector edge,spec/$(n).yaml) src/web/pages/status.js,$(eval $(call gen_spec,$(s))))
gen: $(GEN_FILES)

# The pure rooms below wire need nothing generated: `make ROOMS="base http" unit` builds and tests them alone.
GEN_NEEDED := $(if $(filter wire,$(ROOMS)),$(filter-out $(DOC_FILES),$(GEN_FILES)))

# ---- the program ----
RL_SRC  := $(wildcard $(ROOMS:%=src/%/*.rl))
RL_C    := $(RL_SRC:src/%.rl=$(GEN)/rl/%.c)
C_SRC   := $(wildcard $(ROOMS:%=src/%/*.c))
GEN_C   := $(filter %.c,$(GEN_NEEDED))
OBJ     := $(C_SRC:src/%.c=$(B)/obj/%.o) $(RL_C:$(GEN)/rl/%.c=$(B)/obj/rl/%.o) $(GEN_C:$(GEN)/%.c=$(B)/obj/gen/%.o)
MAIN_O  := $(B)/obj/cli/main.o
LIB_O   := $(filter-out $(MAIN_O),$(OBJ))

all: $(B)/hoody-tunnel

$(GEN)/rl/%.c: src/%.rl
	@mkdir -p $(@D)
	@echo "  RAGEL $<"
	@ragel -C -G2 -o $@ $<

$(B)/obj/%.o: src/%.c | $(GEN_NEEDED)
	@mkdir -p $(@D)
	@echo "  CC    $<"
	@$(CC) $(ALLFLAGS) -c $< -o $@

$(B)/obj/rl/%.o: $(GEN)/rl/%.c | $(GEN_NEEDED)
	@mkdir -p $(@D)
	@echo "  CC    $<"
	@$(CC) $(ALLFLAGS) -Wno-implicit-fallthrough -Wno-unused-const-variable -Wno-unused-variable -c $< -o $@

$(B)/obj/gen/%.o: $(GEN)/%.c | $(GEN_NEEDED)
	@mkdir -p $(@D)
	@echo "  CC    $<"
	@$(CC) $(ALLFLAGS) -c $< -o $@

$(B)/librooms.a: $(LIB_O)
	@rm -f $@
	@$(AR) rcs $@ $^

# The kernel maps code in blocks of 64 KiB, and what is mapped counts as memory of the process. So what kits and drivers share
# stands together, then what only one of them needs; large texts come last.
PLACES := $(foreach r,base json wire flow mux http io ws relay,$(r)/% rl/$(r)/%) gen/wire_gen.o gen/metrics_gen.o gen/events_gen.o \
	opt/% kit/% proc/% web/% admin/% gen/admin_gen.o vtunnel/% gen/vtunnel_gen.o cli/% driver/% guard/% auth/% gate/% inspect/% edge/%
PLACED := $(foreach p,$(PLACES),$(filter $(B)/obj/$(p),$(OBJ)))

$(B)/hoody-tunnel: $(OBJ)
	@echo "  LINK  $@"
	@$(CC) $(if $(LTO),$(OPT) $(LTO) $(HARDEN)) $(LDFLAGS) $(PACKED) -o $@ $(PLACED) $(filter-out $(PLACED),$^) $(LDLIBS)

# ---- the driver library, shared and static: src/driver/hoody_tunnel.h and nothing else is visible ----
LIB_ROOMS := base json wire flow mux http io auth ws web relay vtunnel guard gate inspect driver
DRV_O   := $(filter $(LIB_ROOMS:%=$(B)/obj/%/%) $(LIB_ROOMS:%=$(B)/obj/rl/%/%),$(LIB_O)) \
           $(filter $(B)/obj/gen/wire_gen.o $(B)/obj/gen/vtunnel_gen.o $(B)/obj/gen/metrics_gen.o $(B)/obj/gen/inspect_api_gen.o \
           $(B)/obj/gen/page_gen.o,$(LIB_O))
SONAME  := libhoody-tunnel.so.0
DRV_LIBS := -lev -lwslay -lssl -lcrypto -lpthread

SYMBOLS := src/driver/hoody_tunnel.map
$(B)/$(SONAME): $(DRV_O) $(SYMBOLS)
	@echo "  LINK  $@"
	@$(CC) $(if $(LTO),-fno-lto) -shared -Wl,-soname,$(SONAME) -Wl,--version-script=$(SYMBOLS) $(LDFLAGS) -Wl,--no-undefined -o $@ $(DRV_O) $(DRV_LIBS)

$(B)/libhoody-tunnel.a: $(DRV_O)
	@echo "  AR    $@"
	@$(LD) -r -o $(B)/libhoody-tunnel.o $^
	@objcopy --localize-hidden --remove-section='.gnu.lto_*' --remove-section='.gnu.debuglto_*' $(B)/libhoody-tunnel.o
	@rm -f $@ && $(AR) rcs $@ $(B)/libhoody-tunnel.o

PC_SED := sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' -e 's|/usr/local/bin/|$(PREFIX)/bin/|'
$(B)/hoody-tunnel.pc: src/driver/hoody-tunnel.pc.in Makefile
	@mkdir -p $(@D)
	@$(PC_SED) $< > $@

lib: $(B)/$(SONAME) $(B)/libhoody-tunnel.a $(B)/hoody-tunnel.pc

# ---- examples of the library, built as a stranger would: the public header alone, the static or the shared library ----
EXAMPLES := $(patsubst src/driver/examples/%.c,$(B)/examples/%,$(wildcard src/driver/examples/*.c))
EX_LIBS   = -L$(B) -lhoody-tunnel -Wl,-rpath,'$$ORIGIN/..'
$(B)/examples/own_loop: EX_LIBS = $(B)/libhoody-tunnel.a $(DRV_LIBS)

$(B)/include/hoody_tunnel.h: src/driver/hoody_tunnel.h
	@mkdir -p $(@D)
	@cp $< $@

$(B)/libhoody-tunnel.so: $(B)/$(SONAME)
	@ln -sf $(SONAME) $@

$(B)/examples/%: src/driver/examples/%.c $(B)/include/hoody_tunnel.h $(B)/libhoody-tunnel.so $(B)/libhoody-tunnel.a
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	@$(CC) -std=c11 -D_POSIX_C_SOURCE=200809L $(OPT) $(CFLAGS) $(WARN) $(LDSAN) -I$(B)/include -o $@ $< $(EX_LIBS)

examples: $(EXAMPLES)

# ---- installing: a row is FOLDER MODE FILE NAME; what is installed is what is uninstalled ----
SHARE   := $(PREFIX)/share/hoody-tunnel
UNITS   := $(PREFIX)/lib/systemd
define INSTALLED
$(PREFIX)/bin 755 $(B)/hoody-tunnel hoody-tunnel
$(PREFIX)/lib 755 $(B)/$(SONAME) $(SONAME)
$(PREFIX)/lib 644 $(B)/libhoody-tunnel.a libhoody-tunnel.a
$(PREFIX)/lib/pkgconfig 644 src/driver/hoody-tunnel.pc.in hoody-tunnel.pc
$(PREFIX)/include 644 src/driver/hoody_tunnel.h hoody_tunnel.h
$(foreach p,$(filter %.1,$(PAGES)),$(PREFIX)/share/man/man1 644 $(MAN)/$(p) $(p)
)$(foreach p,$(filter %.5,$(PAGES)),$(PREFIX)/share/man/man5 644 $(MAN)/$(p) $(p)
)$(PREFIX)/share/bash-completion/completions 644 $(GEN)/completion.bash hoody-tunnel
$(PREFIX)/share/zsh/site-functions 644 $(GEN)/completion.zsh _hoody-tunnel
$(PREFIX)/share/fish/vendor_completions.d 644 $(GEN)/completion.fish hoody-tunnel.fish
$(UNITS)/system 644 packaging/hoody-tunnel.service hoody-tunnel.service
$(UNITS)/system 644 packaging/hoody-tunnel.socket hoody-tunnel.socket
$(UNITS)/system 644 packaging/hoody-tunnel-up@.service hoody-tunnel-up@.service
$(PREFIX)/bin 755 packaging/hoody-tunnel-edge-routes hoody-tunnel-edge-routes
$(UNITS)/system 644 packaging/hoody-tunnel-edge.service hoody-tunnel-edge.service
$(UNITS)/system 644 packaging/hoody-tunnel-edge-routes.service hoody-tunnel-edge-routes.service
$(UNITS)/system 644 packaging/hoody-tunnel-edge-agent.service hoody-tunnel-edge-agent.service
$(UNITS)/system 644 packaging/hoody-tunnel-edge-haproxy.service hoody-tunnel-edge-haproxy.service
$(UNITS)/user 644 packaging/user/hoody-tunnel-up@.service hoody-tunnel-up@.service
$(SHARE) 644 $(GEN)/openapi.json openapi.json
$(SHARE) 644 $(GEN)/inspector.json inspector.json
$(SHARE) 644 $(GEN)/protocol.md protocol.md
$(SHARE) 644 $(GEN)/vtunnel.md vtunnel.md
$(foreach f,$(wildcard spec/*.schema.json) $(GEN)/log_line.schema.json $(GEN)/audit_line.schema.json,$(SHARE)/schemas 644 $(f) $(notdir $(f))
)
endef
export INSTALLED
ifndef RELEASE
install:
	@$(MAKE) --no-print-directory RELEASE=1 install
else
install: all lib $(DOC_FILES) $(GEN)/log_line.schema.json $(GEN)/audit_line.schema.json $(GEN)/openapi.json $(GEN)/inspector.json $(GEN)/protocol.md $(GEN)/vtunnel.md
	@echo "$$INSTALLED" | while read -r folder mode file name; do \
		test -n "$$name" || continue; \
		echo "  $(DESTDIR)$$folder/$$name"; \
		install -d "$(DESTDIR)$$folder" || exit 1; \
		case $$file in \
		*.pc.in | *.service) $(PC_SED) $$file > "$(DESTDIR)$$folder/$$name" && chmod $$mode "$(DESTDIR)$$folder/$$name" ;; \
		*) install -m $$mode $$file "$(DESTDIR)$$folder/$$name" ;; \
		esac || exit 1; \
	done
	@ln -sf $(SONAME) $(DESTDIR)$(PREFIX)/lib/libhoody-tunnel.so
endif

# Folders of our own go with their files; the others may be somebody else's.
uninstall:
	@echo "$$INSTALLED" | while read -r folder mode file name; do \
		test -n "$$name" || continue; \
		rm -f "$(DESTDIR)$$folder/$$name"; \
	done
	@rm -f $(DESTDIR)$(PREFIX)/lib/libhoody-tunnel.so
	@rmdir $(DESTDIR)$(SHARE)/schemas $(DESTDIR)$(SHARE) 2>/dev/null || true

# ---- unit tests: tests/<room>/test_*.c, each a CUnit program over the rooms, TAP on stdout ----
UNIT_SRC := $(wildcard $(ROOMS:%=tests/%/test_*.c))
UNIT     := $(UNIT_SRC:tests/%.c=$(B)/tests/%)
SUPPORT  := $(patsubst tests/support/%.c,$(B)/tests/support/%.o,$(wildcard tests/support/*.c))

$(B)/tests/support/%.o: tests/support/%.c | $(GEN_NEEDED)
	@mkdir -p $(@D)
	@$(CC) $(ALLFLAGS) -Itests -c $< -o $@

# Compiled apart from the link: a change in a room links its tests anew and compiles none of them.
UNIT_O   := $(UNIT:=.o)
$(UNIT_O): $(B)/tests/%.o: tests/%.c | $(GEN_NEEDED)
	@mkdir -p $(@D)
	@$(CC) $(ALLFLAGS) -Itests -c $< -o $@

# What tests make, and the program only reads. AddressSanitizer has a crypt_r() of its own, in front of the library's: the linker would leave the
# library out, and it has none to call.
TEST_LIBS := -lz -lzstd -lsqlite3 -lbrotlienc -Wl,--push-state,--no-as-needed -lcrypt -Wl,--pop-state
$(UNIT): %: %.o $(SUPPORT) $(B)/librooms.a
	@echo "  TEST  $@"
	@$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $< $(SUPPORT) $(B)/librooms.a -lcunit $(TEST_LIBS) $(LDLIBS) -lm

# ---- programs that tests and benchmarks use ----
$(B)/tests/ws_echo: $(wildcard tests/ws_echo/*.c) $(B)/librooms.a
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	@$(CC) $(ALLFLAGS) -MF $@.d $(LDFLAGS) -o $@ $(filter %.c,$^) $(B)/librooms.a $(LDLIBS)

$(B)/bench/%: tests/bench/%.c $(B)/librooms.a
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	@$(CC) $(ALLFLAGS) -MF $@.d $(LDFLAGS) -o $@ $< $(B)/librooms.a $(LDLIBS)

# Goes into a program of any build, so it is built in its own way.
$(B)/bench/counting.so: tests/bench/counting.c
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	@$(CC) $(CSTD) -O2 -fno-builtin $(CFLAGS) $(WARN) -fPIC -fvisibility=hidden -shared -o $@ $<

unit-build: $(UNIT)
unit: $(UNIT)
	@set -e; for t in $(UNIT); do echo "# $$t"; $$t; done

# ---- what a Debian machine needs ----
DEPS_BUILD := gcc libc6-dev make pkg-config ragel libev-dev libwslay-dev libcjson-dev libssl-dev libseccomp-dev libyaml-dev libqrencode-dev zlib1g-dev libbrotli-dev libzstd-dev libsqlite3-dev \
              python3 python3-jinja2 python3-yaml python3-jsonschema
DEPS_TEST  := libcunit1-dev curl nginx|nginx-light|nginx-core|nginx-full postgresql redis-server python3-websockets openssl wrk procps haproxy tinyproxy microsocks \
              zsh fish groff-base mandoc python3-pyte tmux iproute2 nftables chromium caddy lego pebble
DEPS_LINT  := clang clang-format shellcheck
DEPS_BENCH := openssh-server openssh-client wrk libnginx-mod-stream
deps:
	@tests/deps.sh $(DEPS_BUILD)
deps-test: deps
	@tests/deps.sh '$(firstword $(DEPS_TEST))' $(foreach d,$(wordlist 2,99,$(DEPS_TEST)),'$(d)')

# ---- for people ----
# A kit on a free loopback port with a sample page exposed. Ctrl-C ends everything.
run: deps
	@$(MAKE) --no-print-directory all
	@$(B)/hoody-tunnel demo

# Everything that can be proved in ten minutes on two cores; see tests/run.
test: deps-test h3-client
	@$(MAKE) --no-print-directory test-build
	@$(MAKE) --no-print-directory SAN=1 test-build
	@$(MAKE) --no-print-directory RELEASE=1 all lib # what test_install.py installs
	@PYTHON="$$(for p in /usr/bin/python3 python3; do $$p -c 'import jinja2, yaml, jsonschema, websockets, pyte' 2>/dev/null && \
		{ echo $$p; break; }; done)" tests/run

test-build: all lib gen examples unit-build fuzz-replay $(B)/tests/ws_echo $(B)/bench/load $(B)/bench/slow $(B)/bench/counting.so

BENCH_WITH := load slow codec
bench: deps-test
	@tests/deps.sh $(DEPS_BENCH)
	@$(MAKE) --no-print-directory RELEASE=1 all $(BENCH_WITH:%=$(W)/release/bench/%)
	@HT_BIN=$(W)/release/hoody-tunnel $(PYTHON) tests/bench/bench.py $(BENCH_ARGS)

# Vite and Next.js, which npm fetches once, behind a kit in Chromium.
dev-servers: deps-test
	@$(MAKE) --no-print-directory all
	@HT_BIN=$(B)/hoody-tunnel DEV_SERVERS=$(W)/dev-servers PYTHONPATH=. $(PYTHON) tests/integration/dev_servers.py

# What changed in the protocol since OLD (a file or a git ref), whether it is compatible, and for whom.
OLD ?= spec/released/protocol.yaml
spec-diff:
	@$(PYTHON) -m gen.specdiff $(OLD)
	@test -e "$(OLD)" -a "$(OLD)" != spec/released/protocol.yaml || \
		$(PYTHON) -m gen.specdiff $(OLD:%protocol.yaml=%vtunnel.yaml) spec/vtunnel.yaml

# With a release of the project: what spec/protocol.yaml and spec/vtunnel.yaml say from now on is never changed or taken away.
spec-release: spec-diff
	@mkdir -p spec/released && for s in protocol vtunnel; do \
		$(PYTHON) -c "from gen import specfile; print(specfile.text('spec/$$s.yaml'), end='')" > spec/released/new && \
		mv spec/released/new spec/released/$$s.yaml || exit 1; done

# A third version, generated, built and spoken beside the others; the kit's part of the conformance suite in all three.
rehearsal: gen
	@PYTHONPATH=. $(PYTHON) tests/gen/test_rehearsal.py all

# The inspector's page in Chromium: what is copied is run, files go out and in, a list of 10,000; and in Firefox.
inspector-page: all deps-test
	@sh tests/deps.sh firefox-esr
	@HT_BIN=$(B)/hoody-tunnel PYTHONPATH=. $(PYTHON) tests/integration/test_inspector_copies.py
	@HT_BIN=$(B)/hoody-tunnel PYTHONPATH=. $(PYTHON) tests/integration/test_inspector_firefox.py

# The edge, with a real HAProxy: what of it `make test` runs too, in both builds.
EDGE_UNITS = $(foreach u,$(UNIT),$(if $(findstring edge,$u),$u)) $(B)/tests/io/test_program $(B)/tests/io/test_site
edge-test: deps-test h3-client
	@$(MAKE) --no-print-directory all edge-units
	@$(MAKE) --no-print-directory SAN=1 all edge-units
	@PYTHON=$(PYTHON) tests/run --all -k edge

# 10,000 containers and 50,000 aliases: on a machine with nothing else to do, for its bounds are in milliseconds.
edge-scale: all
	@PYTHONPATH=. HT_SCALE=whole HT_BIN=$(B)/hoody-tunnel $(PYTHON) tests/integration/test_edge_scale.py

edge-units: $(EDGE_UNITS)

# A client of HTTP/3 for tests, from PyPI; they are left out where it is not there.
H3_CLIENT := build/h3-client
h3-client:
	@$(H3_CLIENT)/bin/python3 -c 'import aioquic' 2>/dev/null || \
		{ python3 -m venv $(H3_CLIENT) && $(H3_CLIENT)/bin/pip -q --retries 1 --timeout 15 install aioquic; } || echo "aioquic cannot be installed: tests of HTTP/3 are left out"

# Each defence of tests/hardening.yaml switched off in a copy of the tree: its tests must fail. CASES="3 9" for some.
hardening: deps-test gen
	@$(PYTHON) -m tests.hardening $(CASES)

# Which lines of each room the unit tests and the fuzz corpora run; COVERAGE_ARGS=-v names those they do not.
coverage: deps-test
	@$(MAKE) --no-print-directory W=build/coverage OPT=-O0 HARDEN= CFLAGS='-g --coverage -fprofile-update=atomic' unit-build fuzz-replay
	@find build/coverage -name '*.gcda' -delete
	@W=build/coverage tests/run --all unit
	@HT_BIN=build/coverage/hoody-tunnel PYTHONPATH=. $(PYTHON) tests/integration/test_fuzz_replay.py >/dev/null
	@$(PYTHON) tests/lint/coverage.py build/coverage $(COVERAGE_ARGS)

layers:
	@$(PYTHON) tests/lint/layers.py

# A second compiler, the formatter and the shell checker.
FORMATTED := $(filter-out %.rl,$(wildcard src/*/*.c src/*/*.h src/driver/examples/*.c tests/*/*.c tests/*/*.h))
lint: $(GEN_FILES)
	@tests/deps.sh $(DEPS_LINT)
	@clang-format --dry-run -Werror $(FORMATTED)
	@for f in $(C_SRC) $(GEN_C); do clang $(CSTD) -O1 $(WARN) $(CPPFLAGS) -fsyntax-only $$f || exit 1; done
	@shellcheck .ci/run tests/deps.sh
	@shellcheck -s bash $(GEN)/completion.bash
	@$(PYTHON) -m compileall -q gen tests conformance >/dev/null
	@echo "lint: $(words $(C_SRC)) C files, clean"

format:
	@clang-format -i $(FORMATTED)

-include tests/fuzz/fuzz.mk
-include tests/faults/faults.mk
-include tests/hostile/hostile.mk
-include tests/chaos/chaos.mk
-include tests/live/live.mk
-include conformance/conformance.mk

help:
	@echo 'make             build/hoody-tunnel'
	@echo 'make run         a working tunnel with a URL to open; installs what is missing; Ctrl-C ends it'
	@echo 'make test        all tests, plain and under sanitizers, with real programs'
	@echo 'make faults      CUTS=100000: a broken link between driver and kit; make soak: 10,000 sessions, 1,000,000 streams; make dead-link: 30 s'
	@echo 'make fuzz        SECONDS=60 for each target; make hostile N=...: bad inputs to every listener'
	@echo 'make chaos       SEED=1 SECONDS=60: random play of kit, drivers, visitors and admins, under sanitizers'
	@echo 'make restart-live  visitors of every kind, 100 lost links and 20 restarts of the kit; make restart-rate: 5,000 requests a second meanwhile'
	@echo 'make hardening   switches one defence off after the other, and wants the tests to see it'
	@echo 'make coverage    lines of each room that unit tests and fuzz corpora run'
	@echo 'make dev-servers Vite and Next.js behind a tunnel, with hot reload, in Chromium; npm fetches them once'
	@echo 'make bench       speed and memory beside nginx and ssh -R, build/bench.html (BENCH_ARGS="--peers DIR --cc cubic", --help for the rest)'
	@echo '                 BENCH_COMPARE=FILE: beside another build of ours as well'
	@echo 'make examples    programs that use the library, in build/examples/'
	@echo 'make lib         the driver library: shared, static, hoody-tunnel.pc'
	@echo 'make install     PREFIX=$(PREFIX), DESTDIR for packagers: the program is optimized as a whole (RELEASE=1); make uninstall takes the same'
	@echo 'make gen         only what the specs generate, in build/gen/'
	@echo 'make unit        the unit tests alone (SAN=1: under sanitizers)'
	@echo 'make spec-diff   what changed in the protocol since it was released, or since OLD=<file or git ref>; is it compatible?'
	@echo 'make conformance the black-box suite against our kit and driver; conformance/README.md tells how to judge others'
	@echo 'make conformance-coverage  which rule and which answer has cases'
	@echo 'make conformance-sdk SDK_DIR=...  the same against the published TypeScript SDK, unpacked there'
	@echo 'make conformance-mutants  the suite against our kit and driver with one seeded fault after the other'
	@echo 'make inspector-page: what the inspector copies, run; its files; a list of 10,000; in Firefox, too'
	@echo 'make edge-scale  a large edge: how soon changes have effect, memory, reloads'
	@echo 'make edge-test   the edge with a real HAProxy, in both builds; installs what is missing'
	@echo 'make rehearsal   a hoody-tunnel.v3 for trial: generated, built, spoken beside v1 and v2'
	@echo 'make layers      no include points up; make lint: second compiler, formatter; make format'

clean:
	rm -rf $(W)

-include $(OBJ:.o=.d) $(UNIT:=.d) $(SUPPORT:.o=.d)
.PHONY: edge-test edge-scale edge-units h3-client inspector-page dev-servers hardening coverage spec-diff spec-release rehearsal all gen unit unit-build clean deps deps-test run test test-build bench layers lint format lib examples install uninstall help
