# vfio-cprd: the build. One file, not recursive. "make help" tells the targets.

PREFIX      ?= /usr/local
BINDIR      ?= $(PREFIX)/bin
SBINDIR     ?= $(PREFIX)/sbin
LIBDIR      ?= $(PREFIX)/lib
INCLUDEDIR  ?= $(PREFIX)/include
MANDIR      ?= $(PREFIX)/share/man
VARLINKDIR  ?= $(PREFIX)/share/varlink
COMPLETIONDIR ?= $(PREFIX)/share/bash-completion/completions
UNITDIR     ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
TMPFILESDIR ?= $(PREFIX)/lib/tmpfiles.d

# Type= of the service: systemd knows notify-reload from 253 on.
SERVICE_TYPE = $(shell pkg-config --atleast-version=253 libsystemd && echo notify-reload || echo notify)

VERSION   := $(shell sed -n 's/^.define VFIO_CPRD_VERSION "\(.*\)"/\1/p' common/version.h)
SOVERSION := 0

# SANITIZE=1 builds with ASan and UBSan, into a folder of its own.
SANITIZE ?= 0
ifeq ($(SANITIZE),1)
B         := build/sanitized
OPTFLAGS  := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
else
B         := build
OPTFLAGS  := -O2 -g -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fstack-clash-protection
endif

# V=1 shows the commands in full.
V ?= 0
Q := $(if $(filter 1,$(V)),,@)
say = @printf '  %-4s %s\n' $(1) $@

CC       ?= gcc
WARNINGS := -Wall -Wextra -Wshadow -Wmissing-prototypes -Wstrict-prototypes -Werror
CPPFLAGS += -D_GNU_SOURCE -I. -Iinclude
CFLAGS   ?= $(OPTFLAGS)
ALL_CFLAGS = -std=gnu11 $(WARNINGS) $(CFLAGS) -fPIC -fvisibility=hidden -pthread
LDFLAGS  += -Wl,-z,relro,-z,now $(filter -fsanitize%,$(OPTFLAGS))

# What each part links: the library knows no event loop and no systemd.
DAEMON_PKGS := libsystemd libevent libevent_pthreads glib-2.0 jansson
CLIENT_PKGS := glib-2.0 jansson
TEST_PKGS   := check
pkg_cflags = $(shell pkg-config --cflags $(1))
pkg_libs   = $(shell pkg-config --libs $(1))

COMMON_SRC  := $(wildcard common/*.c)
DAEMON_SRC  := $(wildcard daemon/*.c)
CLIENT_SRC  := $(wildcard client/*.c)
CTL_SRC     := $(wildcard cprctl/*.c) client/connection.c
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
	$(Q)$(CC) $(CPPFLAGS) $(call pkg_cflags,$(DAEMON_PKGS)) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

# The interface descriptions as C strings.
$(B)/common/interfaces.c: $(INTERFACES) common/embed.sh
	@mkdir -p $(@D)
	$(Q)sh common/embed.sh $(INTERFACES) > $@.new && mv $@.new $@

$(B)/common/interfaces.o: $(B)/common/interfaces.c
	$(Q)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -c $< -o $@

$(B)/vfio-cprd: $(DAEMON_OBJ) $(COMMON_OBJ)
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) $^ -o $@ $(call pkg_libs,$(DAEMON_PKGS))

$(B)/vfio-cprctl: $(CTL_OBJ) $(COMMON_OBJ)
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) $^ -o $@ $(call pkg_libs,$(CLIENT_PKGS))

$(LIB_SO): $(CLIENT_OBJ) $(COMMON_OBJ) client/libvfio-cpr.map
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -shared -Wl,-soname,$(@F) \
		-Wl,--version-script=client/libvfio-cpr.map $(filter %.o,$^) -o $@ \
		$(call pkg_libs,$(CLIENT_PKGS))

$(B)/libvfio-cpr.so: $(LIB_SO)
	$(Q)ln -sf $(<F) $@

# One object, in which only what the header names is left to see.
$(B)/libvfio-cpr.a: $(CLIENT_OBJ) $(COMMON_OBJ)
	$(Q)$(LD) -r $^ -o $(B)/libvfio-cpr.o
	$(Q)objcopy --localize-hidden $(B)/libvfio-cpr.o
	$(Q)rm -f $@
	$(Q)$(AR) rcs $@ $(B)/libvfio-cpr.o

# Made each time: PREFIX may be another one than last time.
.PHONY: FORCE
$(B)/libvfio-cpr.pc: client/libvfio-cpr.pc.in FORCE
	@mkdir -p $(@D)
	$(Q)sed -e 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@INCLUDEDIR@|$(INCLUDEDIR)|' \
		-e 's|@VERSION@|$(VERSION)|' $< > $@

# An example sees the public header alone, like any user of the library.
$(B)/%: examples/%.c include/vfio-cpr.h $(LIB_SO) $(B)/libvfio-cpr.so
	$(call say,LD)
	$(Q)$(CC) -D_GNU_SOURCE -Iinclude $(ALL_CFLAGS) $(LDFLAGS) $< -o $@ -L$(B) -lvfio-cpr \
		-Wl,-rpath,'$$ORIGIN'

-include $(shell find $(B) -name '*.d' 2>/dev/null)

# Tests. Programs for them are built like everything else; what runs them is in tests/.

UNIT_TESTS := $(patsubst tests/unit/%.c,$(B)/tests/%,$(wildcard tests/unit/test-*.c))
VM_PROGRAMS := $(B)/tests/vmm $(B)/tests/killpoint.so

DAEMON_TEST_OBJ := $(filter-out $(B)/daemon/main.o,$(DAEMON_OBJ)) $(COMMON_OBJ)
HOSTCHECK_OBJ   := $(patsubst %,$(B)/cprctl/%.o,hostcheck hostprobe devicecheck sysfs) $(COMMON_OBJ)

$(B)/tests/test-hostcheck: $(B)/tests/unit/test-hostcheck.o $(HOSTCHECK_OBJ)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) $^ -o $@ $(call pkg_libs,$(CLIENT_PKGS) $(TEST_PKGS))

$(B)/tests/test-%: $(B)/tests/unit/test-%.o $(DAEMON_TEST_OBJ)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) $^ -o $@ $(call pkg_libs,$(DAEMON_PKGS) $(TEST_PKGS))

FUZZERS := $(patsubst tests/fuzz/%.c,$(B)/tests/%,$(wildcard tests/fuzz/fuzz-*.c))

$(B)/tests/fuzz-%: $(B)/tests/fuzz/fuzz-%.o $(DAEMON_TEST_OBJ)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) -fsanitize=fuzzer $^ -o $@ $(call pkg_libs,$(DAEMON_PKGS))

# The tests' VMM, too, sees the public header alone.
VMM_SRC := $(wildcard tests/vm/vmm*.c)

$(B)/tests/vmm: $(VMM_SRC) tests/vm/vmm.h include/vfio-cpr.h $(LIB_SO) $(B)/libvfio-cpr.so
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) -D_GNU_SOURCE -I. -Iinclude $(ALL_CFLAGS) $(LDFLAGS) $(VMM_SRC) -o $@ -L$(B) -lvfio-cpr \
		-Wl,-rpath,'$$ORIGIN/..'

# Preloaded, so without a sanitizer of its own.
$(B)/tests/killpoint.so: tests/vm/killpoint.c common/uapi.h
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) -D_GNU_SOURCE -I. -Iinclude -std=gnu11 $(WARNINGS) -O2 -fPIC -shared $< -o $@ -ldl

.PHONY: test-programs vm-programs fuzzers
fuzzers: $(FUZZERS)
vm-programs: all $(VM_PROGRAMS)
test-programs: vm-programs $(UNIT_TESTS)

# The two commands of the README, and parts of them.
.PHONY: check check-unit check-proto check-journal check-vm check-systemd check-harness check-tree \
	demo lint
check:
	@tests/check.sh all
check-unit check-proto check-journal check-vm check-systemd check-harness check-tree:
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

.PHONY: fuzz
fuzz:
	@tests/fuzz/run.sh

.PHONY: install
install: all $(B)/vfio-cprd.service
	install -d $(DESTDIR)$(SBINDIR) $(DESTDIR)$(BINDIR) $(DESTDIR)$(LIBDIR)/pkgconfig \
		$(DESTDIR)$(INCLUDEDIR) $(DESTDIR)$(MANDIR)/man1 $(DESTDIR)$(MANDIR)/man3 \
		$(DESTDIR)$(MANDIR)/man7 $(DESTDIR)$(MANDIR)/man8 $(DESTDIR)$(UNITDIR) \
		$(DESTDIR)$(VARLINKDIR) $(DESTDIR)$(COMPLETIONDIR) $(DESTDIR)$(SYSUSERSDIR) \
		$(DESTDIR)$(TMPFILESDIR)
	install -m 755 $(B)/vfio-cprd $(DESTDIR)$(SBINDIR)
	install -m 755 $(B)/vfio-cprctl $(DESTDIR)$(BINDIR)
	install -m 644 $(LIB_SO) $(B)/libvfio-cpr.a $(DESTDIR)$(LIBDIR)
	ln -sf $(notdir $(LIB_SO)) $(DESTDIR)$(LIBDIR)/libvfio-cpr.so
	install -m 644 $(B)/libvfio-cpr.pc $(DESTDIR)$(LIBDIR)/pkgconfig
	install -m 644 include/vfio-cpr.h $(DESTDIR)$(INCLUDEDIR)
	install -m 644 docs/*.1 $(DESTDIR)$(MANDIR)/man1
	install -m 644 docs/*.3 $(DESTDIR)$(MANDIR)/man3
	install -m 644 docs/*.7 $(DESTDIR)$(MANDIR)/man7
	install -m 644 docs/*.8 $(DESTDIR)$(MANDIR)/man8
	install -m 644 systemd/vfio-cprd.socket $(B)/vfio-cprd.service $(DESTDIR)$(UNITDIR)
	install -m 644 systemd/vfio-cprd.sysusers $(DESTDIR)$(SYSUSERSDIR)/vfio-cprd.conf
	install -m 644 systemd/vfio-cprd.tmpfiles $(DESTDIR)$(TMPFILESDIR)/vfio-cprd.conf
	install -m 644 common/io.vfiocpr.Session.varlink $(DESTDIR)$(VARLINKDIR)
	install -m 644 completions/vfio-cprctl.bash $(DESTDIR)$(COMPLETIONDIR)/vfio-cprctl

$(B)/vfio-cprd.service: systemd/vfio-cprd.service.in FORCE
	@mkdir -p $(@D)
	$(Q)sed -e 's|@SBINDIR@|$(SBINDIR)|; s|@TYPE@|$(SERVICE_TYPE)|' $< > $@

.PHONY: clean
clean:
	rm -rf build

.PHONY: help
help:
	@echo 'make            the daemon, the library, vfio-cprctl and the example'
	@echo 'make demo       a driver is killed with DMA in flight, in a test VM'
	@echo 'make check      every test; parts: check-tree check-unit check-proto check-journal'
	@echo '                check-harness check-vm check-systemd'
	@echo 'make check-kills  the daemon is killed 10,000 times while clients work (KILLS=N)'
	@echo 'make lint       formatting, static analysis, both compilers'
	@echo 'make bench      beside its peers and the kernel; BENCH_VM=0 without the VM'
	@echo 'make fuzz       the fuzzers, for FUZZ_SECONDS each (60)'
	@echo 'make install    with DESTDIR and PREFIX ($(PREFIX))'
	@echo 'SANITIZE=1 builds with ASan and UBSan into build/sanitized; V=1 shows the commands'
