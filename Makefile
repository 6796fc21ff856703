# vfio-cprd: the build. One file, not recursive. "make help" tells the targets.

PREFIX      ?= /usr/local
BINDIR      ?= $(PREFIX)/bin
SBINDIR     ?= $(PREFIX)/sbin
LIBDIR      ?= $(PREFIX)/lib
INCLUDEDIR  ?= $(PREFIX)/include
MANDIR      ?= $(PREFIX)/share/man
VARLINKDIR  ?= $(PREFIX)/share/varlink
DOCDIR      ?= $(PREFIX)/share/doc/vfio-cprd
COMPLETIONDIR     ?= $(PREFIX)/share/bash-completion/completions
ZSHCOMPLETIONDIR  ?= $(PREFIX)/share/zsh/site-functions
FISHCOMPLETIONDIR ?= $(PREFIX)/share/fish/vendor_completions.d
UNITDIR     ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
TMPFILESDIR ?= $(PREFIX)/lib/tmpfiles.d

# For which systemd the service is made: this host's, if nobody says another one.
SYSTEMD_VERSION ?= $(call once,SYSTEMD_VERSION,--modversion,libsystemd)

VERSION   := $(shell sed -n 's/^.define VFIO_CPR_VERSION[[:space:]]*"\(.*\)"/\1/p' include/vfio-cpr.h)
SOVERSION := 0

# V=1 shows the commands in full.
V ?= 0
Q := $(if $(filter 1,$(V)),,@)
say = @printf '  %-4s %s\n' $(1) $@

# CPPFLAGS, CFLAGS and LDFLAGS are the user's, from the environment or the command line. What this
# build needs is in variables of its own (OWN_...), so that it is there whatever the user says.
# SANITIZE=1 builds with ASan and UBSan, into a folder of its own; WERROR=1 makes warnings errors.
SANITIZE ?= 0
WERROR   ?= 0
ifeq ($(SANITIZE),1)
B         := build/sanitized
SANITIZER := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
FORTIFY   :=
CFLAGS    ?= -O1 -g
else
B         := build
SANITIZER :=
# A distribution has a hardening of its own, in its CFLAGS.
FORTIFY   := $(if $(filter undefined,$(origin CFLAGS)),-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
CFLAGS    ?= -O2 -g -fstack-protector-strong -fstack-clash-protection
endif
# Two values of _FORTIFY_SOURCE are a warning each time.
FORTIFY   := $(if $(findstring _FORTIFY_SOURCE,$(CPPFLAGS)),,$(FORTIFY))

WARNINGS := -Wall -Wextra -Wshadow -Wmissing-prototypes -Wstrict-prototypes \
	$(if $(filter 1,$(WERROR)),-Werror)
OWN_CPPFLAGS := -D_GNU_SOURCE -I. -Iinclude $(FORTIFY)
# The user's come last where a choice is theirs (-O, -W, -I), and first where it is not: a -fPIE
# after -fPIC would spoil the library.
ALL_CFLAGS  = -std=gnu11 $(WARNINGS) $(CFLAGS) -fPIC -fvisibility=hidden -pthread $(SANITIZER)
ALL_LDFLAGS = -Wl,-z,relro,-z,now $(LDFLAGS)
compile = $(CC) $(OWN_CPPFLAGS) $(CPPFLAGS) $(PKG_CFLAGS) $(ALL_CFLAGS)
# What sees the public header alone, like any user of the library.
compile_user = $(CC) -D_GNU_SOURCE -Iinclude $(FORTIFY) $(CPPFLAGS) $(ALL_CFLAGS)
link = $(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS)

# The compiler's, so that a cross compiler brings its own.
OBJCOPY ?= $(shell $(CC) -print-prog-name=objcopy)
ifeq ($(origin AR),default)
AR = $(shell $(CC) -print-prog-name=ar)
endif

# What each part links: the library knows no event loop and no systemd.
DAEMON_PKGS := libsystemd libevent libevent_pthreads glib-2.0 jansson libseccomp
CLIENT_PKGS := glib-2.0 jansson
PKG_CONFIG  ?= pkg-config

# pkg-config is asked when an answer is first needed, and once: $(call once,VARIABLE,OPTION,PACKAGES)
# puts it in the place of the variable that calls it.
once = $(eval $(1) := $(call ask,$(2),$(3)))$($(1))
ask = $(NEEDED)$(shell $(PKG_CONFIG) $(1) $(2))
NEEDED = $(eval NEEDED := $(foreach package,$(DAEMON_PKGS),$(call need,$(package))))
need = $(if $(shell $(PKG_CONFIG) --exists $(1) 2>/dev/null && echo yes),,$(call missing,$(1)))
missing = $(if $(shell command -v $(firstword $(PKG_CONFIG))),\
	$(error $(PKG_CONFIG) does not find $(1), which vfio-cprd needs. $(install_hint)),\
	$(error $(PKG_CONFIG) is missing, which tells where the libraries are. $(install_hint)))
install_hint = On Debian: apt-get install $(strip $(shell sed -n '/^. build/,/^$$/{/^[a-z]/p}' tests/packages))
PKG_CFLAGS  = $(call once,PKG_CFLAGS,--cflags,$(DAEMON_PKGS))
DAEMON_LIBS = $(call once,DAEMON_LIBS,--libs,$(DAEMON_PKGS))
CLIENT_LIBS = $(call once,CLIENT_LIBS,--libs,$(CLIENT_PKGS))
STATIC_LIBS = $(call once,STATIC_LIBS,--static --libs,$(CLIENT_PKGS))
TEST_LIBS   = $(call once,TEST_LIBS,--libs,check)

COMMON_SRC  := $(wildcard common/*.c)
DAEMON_SRC  := $(wildcard daemon/*.c)
CLIENT_SRC  := $(wildcard client/*.c)
CTL_SRC     := $(wildcard cprctl/*.c) client/connection.c client/refusal.c
EXAMPLE_SRC := $(wildcard examples/*.c)
INTERFACES  := $(wildcard common/*.varlink)

COMMON_OBJ := $(COMMON_SRC:%.c=$(B)/%.o)
DAEMON_OBJ := $(DAEMON_SRC:%.c=$(B)/%.o) $(B)/common/interfaces.o
CLIENT_OBJ := $(CLIENT_SRC:%.c=$(B)/%.o)
CTL_OBJ    := $(CTL_SRC:%.c=$(B)/%.o)

LIB_SO  := $(B)/libvfio-cpr.so.$(SOVERSION)
PROGRAMS := $(B)/vfio-cprd $(B)/vfio-cprctl $(EXAMPLE_SRC:examples/%.c=$(B)/%)

.PHONY: all
all: $(PROGRAMS) $(LIB_SO) $(B)/libvfio-cpr.so $(B)/libvfio-cpr.a $(B)/libvfio-cpr.pc

$(B)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(compile) -MMD -MP -c $< -o $@

# The interface descriptions as C strings.
$(B)/common/interfaces.c: $(INTERFACES) common/embed.sh
	@mkdir -p $(@D)
	$(Q)sh common/embed.sh $(INTERFACES) > $@.new && mv $@.new $@

$(B)/common/interfaces.o: $(B)/common/interfaces.c
	$(Q)$(compile) -c $< -o $@

$(B)/vfio-cprd: $(DAEMON_OBJ) $(COMMON_OBJ)
	$(call say,LD)
	$(Q)$(link) $^ -o $@ $(DAEMON_LIBS)

$(B)/vfio-cprctl: $(CTL_OBJ) $(COMMON_OBJ)
	$(call say,LD)
	$(Q)$(link) $^ -o $@ $(CLIENT_LIBS)

$(LIB_SO): $(CLIENT_OBJ) $(COMMON_OBJ) client/libvfio-cpr.map
	$(call say,LD)
	$(Q)$(link) -shared -Wl,-soname,$(@F) \
		-Wl,--version-script=client/libvfio-cpr.map $(filter %.o,$^) -o $@ \
		$(CLIENT_LIBS)

$(B)/libvfio-cpr.so: $(LIB_SO)
	$(Q)ln -sf $(<F) $@

# One object, in which only what the header names is left to see. Of link-time optimization's objects
# the compiler makes machine code here (gcc if it is told to), so that any linker can use it.
NATIVE_REL = $(shell $(CC) -flinker-output=nolto-rel -E -x c /dev/null >/dev/null 2>&1 && \
	echo -flinker-output=nolto-rel)
$(B)/libvfio-cpr.a: $(CLIENT_OBJ) $(COMMON_OBJ)
	$(Q)$(CC) $(CFLAGS) $(filter -flto% -fuse-ld=% --ld-path=%,$(LDFLAGS)) -fno-sanitize=all \
		-r -nostdlib $(NATIVE_REL) $^ -o $(B)/libvfio-cpr.o
	$(Q)$(OBJCOPY) --localize-hidden $(B)/libvfio-cpr.o
	$(Q)rm -f $@
	$(Q)$(AR) rcs $@ $(B)/libvfio-cpr.o

# Made each time: PREFIX may be another one than last time.
.PHONY: FORCE
$(B)/libvfio-cpr.pc: client/libvfio-cpr.pc.in FORCE
	@mkdir -p $(@D)
	$(Q)sed -e 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@INCLUDEDIR@|$(INCLUDEDIR)|' \
		-e 's|@VERSION@|$(VERSION)|; s|@LIBS_PRIVATE@|$(strip $(STATIC_LIBS))|' $< > $@.new && mv -f $@.new $@

# An example sees the public header alone, like any user of the library.
$(B)/%: examples/%.c include/vfio-cpr.h $(LIB_SO) $(B)/libvfio-cpr.so
	$(call say,LD)
	$(Q)$(compile_user) $(ALL_LDFLAGS) $< -o $@ -L$(B) -lvfio-cpr \
		-Wl,-rpath,'$$ORIGIN'

-include $(shell find $(B) -name '*.d' 2>/dev/null)

# Tests. Programs for them are built like everything else; what runs them is in tests/.

UNIT_TESTS := $(patsubst tests/unit/%.c,$(B)/tests/%,$(wildcard tests/unit/test-*.c))
VM_PROGRAMS := $(B)/tests/vmm $(B)/tests/killpoint.so

DAEMON_TEST_OBJ := $(filter-out $(B)/daemon/main.o,$(DAEMON_OBJ)) $(COMMON_OBJ)
HOSTCHECK_OBJ   := $(patsubst %,$(B)/cprctl/%.o,hostcheck hostprobe limitcheck access unitcheck device \
	devicecheck holder session pci-address sysfs output call) $(B)/client/connection.o \
	$(B)/client/refusal.o $(COMMON_OBJ)

CTL_TESTS := $(patsubst %,$(B)/tests/test-%,hostcheck devicecheck access unitcheck holder pci-address)

$(CTL_TESTS): $(B)/tests/%: $(B)/tests/unit/%.o \
		$(B)/tests/unit/hostroot.o $(HOSTCHECK_OBJ)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(link) $^ -o $@ $(CLIENT_LIBS) $(TEST_LIBS)

# The library on a kernel that answers as the test tells it to.
CLIENT_TESTS    := slots restore memory pci
CLIENT_TEST_OBJ := $(filter-out $(B)/client/dma-ioctl.o,$(CLIENT_OBJ)) $(B)/tests/unit/fake-dma.o \
	$(COMMON_OBJ)

# On a daemon that does.
$(B)/tests/test-attach: $(B)/tests/unit/test-attach.o \
		$(filter-out $(B)/client/connection.o,$(CLIENT_OBJ)) $(COMMON_OBJ)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(link) $^ -o $@ $(CLIENT_LIBS) $(TEST_LIBS)

$(CLIENT_TESTS:%=$(B)/tests/test-%): $(B)/tests/test-%: $(B)/tests/unit/test-%.o $(CLIENT_TEST_OBJ)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(link) $^ -o $@ $(CLIENT_LIBS) $(TEST_LIBS)

$(B)/tests/test-%: $(B)/tests/unit/test-%.o $(DAEMON_TEST_OBJ)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(link) $^ -o $@ $(DAEMON_LIBS) $(TEST_LIBS)

# Linked to the library's archive: a program with more rights than its user looks in no folder of ours
# for libraries.
$(B)/tests/opener: tests/proto/opener.c include/vfio-cpr.h $(B)/libvfio-cpr.a
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(compile_user) $(ALL_LDFLAGS) $< -o $@ $(B)/libvfio-cpr.a $(CLIENT_LIBS)

FUZZERS := $(patsubst tests/fuzz/%.c,$(B)/tests/%,$(wildcard tests/fuzz/fuzz-*.c))

# The daemon in a world that is made up: tests/fuzz/world.h.
WORLD_OBJ := $(patsubst %,$(B)/tests/fuzz/%.o,world kernel oracle systemd worker) \
	$(filter-out $(B)/daemon/worker.o $(B)/daemon/devnumbers.o,$(DAEMON_TEST_OBJ))

WORLD_WRAPS := getsockopt statx readlinkat readlink

$(B)/tests/fuzz-conversation $(B)/tests/fuzz-journal: $(B)/tests/fuzz-%: $(B)/tests/fuzz/fuzz-%.o \
		$(WORLD_OBJ)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(link) -fsanitize=fuzzer $(WORLD_WRAPS:%=-Wl,--wrap=%) $^ -o $@ $(DAEMON_LIBS)

$(B)/tests/fuzz-%: $(B)/tests/fuzz/fuzz-%.o $(DAEMON_TEST_OBJ)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(link) -fsanitize=fuzzer $^ -o $@ $(DAEMON_LIBS)

# The tests' VMM, too, sees the public header alone.
VMM_SRC := $(wildcard tests/vm/vmm*.c)

$(B)/tests/vmm: $(VMM_SRC) tests/vm/vmm.h include/vfio-cpr.h $(LIB_SO) $(B)/libvfio-cpr.so
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(compile_user) -I. $(ALL_LDFLAGS) $(VMM_SRC) -o $@ -L$(B) -lvfio-cpr \
		-Wl,-rpath,'$$ORIGIN/..'

# Preloaded, so without a sanitizer of its own.
$(B)/tests/killpoint.so: tests/vm/killpoint.c common/uapi.h
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(OWN_CPPFLAGS) -std=gnu11 $(WARNINGS) -O2 -fPIC -shared $< -o $@ -ldl

.PHONY: test-programs vm-programs fuzzers
fuzzers: $(FUZZERS)
vm-programs: all $(VM_PROGRAMS)
test-programs: vm-programs $(UNIT_TESTS) $(B)/tests/opener

# The two commands of the README, and parts of them.
CHECKS := unit patience proto attack journal vm systemd harness tree lint completion install docs
.PHONY: check $(CHECKS:%=check-%) demo lint
check:
	@tests/check.sh all
$(CHECKS:%=check-%):
	@tests/check.sh $(@:check-%=%)

# The daemon is killed 10,000 times.
.PHONY: check-kills
check-kills: all
	@BUILD=build /usr/bin/python3 tests/journal/kill_test.py --kills $(or $(KILLS),10000)
demo:
	@tests/vm/demo.sh
lint:
	@tests/lint.sh

.PHONY: bench
bench:
	@tests/bench/run.sh

.PHONY: coverage
coverage:
	@tests/coverage.sh

.PHONY: fuzz
fuzz:
	@tests/fuzz/run.sh

# What is put where is in packaging/install.sh, which is told the folders by its environment.
FOLDERS := DESTDIR PREFIX BINDIR SBINDIR LIBDIR INCLUDEDIR MANDIR VARLINKDIR DOCDIR COMPLETIONDIR \
	ZSHCOMPLETIONDIR FISHCOMPLETIONDIR UNITDIR SYSUSERSDIR TMPFILESDIR
.PHONY: install uninstall
install: all $(B)/vfio-cprd.service
install uninstall:
	@env $(foreach folder,$(FOLDERS),$(folder)='$($(folder))') BUILD=$(B) SONAME=$(notdir $(LIB_SO)) \
		packaging/install.sh $@

# Lines of a unit that begin with @>=N@ are for systemd N and newer, with @<N@ for older ones.
since = $(if $(shell [ $(firstword $(subst ., ,$(SYSTEMD_VERSION))) -ge $(1) ] && echo yes), \
	-e 's/^@>=$(1)@//; /^@<$(1)@/d',-e 's/^@<$(1)@//; /^@>=$(1)@/d')
$(B)/vfio-cprd.service: systemd/vfio-cprd.service.in FORCE
	@mkdir -p $(@D)
	$(Q)sed -e 's|@SBINDIR@|$(SBINDIR)|' $(call since,253) $(call since,254) $< > $@.new && mv -f $@.new $@

.PHONY: clean
clean:
	rm -rf build

.PHONY: help
help:
	@echo 'make            the daemon, the library, vfio-cprctl and the example'
	@echo 'make demo       a driver is killed with DMA in flight, in a test VM'
	@echo 'make check      every test; parts: check-tree check-unit check-patience check-proto check-attack'
	@echo '                check-journal check-completion check-harness check-vm check-systemd check-install'
	@echo '                check-docs check-lint; check-unit T=object runs test-object alone'
	@echo 'make check-kills  the daemon is killed 10,000 times while clients work (KILLS=N)'
	@echo 'make lint       formatting, static analysis, both compilers'
	@echo 'make bench      beside its peers and the kernel; BENCH_VM=0 without the VM'
	@echo 'make coverage   the share of lines that the tests run'
	@echo 'make fuzz       the fuzzers, for FUZZ_SECONDS each (60); FUZZ_FAST=1 without sanitizers'
	@echo 'make install    with DESTDIR and PREFIX ($(PREFIX)); LIBDIR is $(LIBDIR) if it is not given'
	@echo 'make uninstall  with the same: removes what install has put there'
	@echo 'SANITIZE=1 builds with ASan and UBSan into build/sanitized; V=1 shows the commands;'
	@echo 'WERROR=1 makes warnings errors. CPPFLAGS, CFLAGS and LDFLAGS, from the environment or the'
	@echo 'command line, are added to what the build needs'
